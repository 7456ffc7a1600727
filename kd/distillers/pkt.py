"""PKT: which samples of a batch are alike, as probabilities.

Passalis, Tefas, "Learning deep representations with probabilistic knowledge transfer", ECCV 2018.

    L = a mean_ij p_T ln((p_T + e) / (p_S + e)) + w label loss

p_ij is (cos(x_i, x_j) + 1) / 2 over the vectors of the batch, divided by its sum over j; e = 1e-7. The default
a = 30000 is that of CRD's comparisons (ICLR 2020).

Differences from the authors' code: in the cosine a vector counts as 1e-6 long at least, as otherwise gradients would
grow without bound where vectors die; theirs adds 1e-7 to every length instead.

    distiller: {name: pkt, weight: 30000}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Gt

from kd.distillers.base import Batch, Distiller, Required

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kd.models.outputs import Arrays

EPSILON = 1e-7


class Method(Distiller):
    """Weights of the two terms."""

    name: Literal["pkt"] = "pkt"
    weight: Annotated[float, Gt(0)] = 30000.0
    """a: weight of the divergence of similarities."""

    NEEDS_GLOBAL_BATCH = True
    REQUIRED = Required(("L1",))

    def loss(self, student: Arrays, teacher: Arrays, batch: Batch, auxiliary: nn.Module | None) -> Tensor:
        """See the formula above."""
        from kd.distillers.losses import at, directions, label_loss, products

        def probabilities(vectors: Tensor) -> Tensor:
            unit = directions(vectors)
            similarities = (products(unit, unit).clamp(-1, 1) + 1) / 2
            return similarities / similarities.sum(dim=1, keepdim=True)

        student_probabilities, teacher_probabilities = (probabilities(at(each, "L1")) for each in (student, teacher))
        ratios = (teacher_probabilities + EPSILON) / (student_probabilities + EPSILON)
        divergence = (teacher_probabilities * ratios.log()).mean()
        return self.label_weight * label_loss(student, batch.labels) + self.weight * divergence
