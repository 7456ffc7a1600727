"""L2D: label-wise multi-label distillation, of logits and of the structure of label embeddings.

Yang, Xie, Zong, Feng, Niu, Sugiyama, Huang, "Multi-label knowledge distillation", ICCV 2023.

    L = w BCE(z_S, y) + a MLD + b CD + c ID

MLD is that of `kd.distillers.mld`, a mean over the batch; CD and ID are those of `kd.distillers.cd` and
`kd.distillers.id`, sums over classes and over samples. Defaults w, a, b, c = 1, 10, 100, 1000 are the authors', with
batches of 64. The reduction `paper`, as in their code, takes BCE as a sum over the batch, so that the balance depends
on the batch size. In `batch_mean` it does not, but for CD: the rarer a class, the less of it a small batch sees.

    L = w BCE / N + (a / 64) MLD + b CD / N + c ID / N,   in batches of 64 equal to `paper` / 64

Differences from the authors' code: BCE and MLD are computed from logits, without their clamp of probabilities at 1e-8,
as `mld` says; CD and ID differ as `cd` says. Value and gradient of the reduction `paper` are the same otherwise;
`batch_mean` is ours.

    distiller: {name: l2d, mld_weight: 10, cd_weight: 100, id_weight: 1000, reduction: paper}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt

from kd.distillers.base import Batch, MultiLabelDistiller, Required
from kd.models.spec import Level

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kd.models.outputs import Arrays


class Method(MultiLabelDistiller):
    """Weights of the four terms, temperature, and how terms are summed; a term of weight 0 is not computed."""

    name: Literal["l2d"] = "l2d"
    mld_weight: Annotated[float, Ge(0)] = 10.0
    """a: weight of the divergences of logits."""
    cd_weight: Annotated[float, Ge(0)] = 100.0
    """b: weight of the differences of distances between samples, class by class."""
    id_weight: Annotated[float, Ge(0)] = 1000.0
    """c: weight of the differences of distances between labels, sample by sample."""
    temperature: Annotated[float, Gt(0)] = 1.0
    """T of MLD: softens the logits of both teacher and student; the paper has 1."""

    NEEDS_GLOBAL_BATCH = True

    def required(self, level: Level | None = None) -> Required:
        """The arrays read by terms whose weight is not 0."""
        return Required(logits=self.mld_weight > 0, label_embeddings=self._compares_embeddings)

    @property
    def _compares_embeddings(self) -> bool:
        return self.cd_weight > 0 or self.id_weight > 0

    def loss(self, student: Arrays, teacher: Arrays, batch: Batch, auxiliary: nn.Module | None) -> Tensor:
        """See the formula above."""
        from kd.distillers.losses import logits_divergence, of_positives, structural_distance

        means: Tensor | float = 0.0
        sums: Tensor | float = 0.0
        if self.mld_weight > 0:
            means = self.mld_weight * logits_divergence(student, teacher, self.temperature)
        if self._compares_embeddings:
            student_embeddings, teacher_embeddings, instances, classes = of_positives(student, teacher, batch.labels)
            for weight, sets in ((self.cd_weight, classes), (self.id_weight, instances)):
                if weight > 0:
                    sums = sums + weight * structural_distance(student_embeddings, teacher_embeddings, sets)
        return self.combined(student, batch, means=means, sums=sums)
