"""MLD: multi-label logits distillation, the first term of L2D alone.

Yang, Xie, Zong, Feng, Niu, Sugiyama, Huang, "Multi-label knowledge distillation", ICCV 2023.

    L = BCE(z_S, y) + a T^2 (1 / N) sum_i sum_k KL(Bernoulli(p_T) || Bernoulli(p_S)),   p = sigmoid(z / T)

a = 10 is its weight in L2D, where T = 1; the temperature is ours. `reduction` is as in `l2d`.

Logarithms of probabilities are computed from logits. The authors clamp probabilities at 1e-8 before the logarithm; for
a logit of 17 or more, whose probability rounds to 1 in float32, their loss is infinite, where this one is exact.

    distiller: {name: mld, weight: 10, temperature: 1}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge, Gt

from kd.data.options import Task
from kd.distillers.base import Batch, Distiller, Reduction, Required

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kd.models.outputs import Arrays


class Method(Distiller):
    """Weights of the two terms, temperature, and how terms are summed."""

    name: Literal["mld"] = "mld"
    weight: Annotated[float, Gt(0)] = 10.0
    """a: of the divergences."""
    temperature: Annotated[float, Gt(0)] = 1.0
    """T: softens both teacher and student."""
    label_weight: Annotated[float, Ge(0)] = 1.0
    """Of the binary cross-entropy with the labels."""
    reduction: Reduction = "paper"
    """paper: label loss as a sum over the batch; batch_mean: all as means, see `l2d`."""

    TASKS: ClassVar[tuple[Task, ...]] = ("multi_label",)
    REQUIRED: ClassVar[Required] = Required(logits=True)

    def loss(self, student: Arrays, teacher: Arrays, batch: Batch, auxiliary: nn.Module | None) -> Tensor:
        """See the formula above."""
        from kd.distillers.losses import combined, label_loss, logits_divergence

        label = self.label_weight * label_loss(student, batch.labels)
        divergence = self.weight * logits_divergence(student, teacher, self.temperature)
        return combined(label, batch, self.reduction, means=divergence)
