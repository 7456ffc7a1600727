"""MLD: multi-label logits distillation, the first term of L2D alone.

Yang, Xie, Zong, Feng, Niu, Sugiyama, Huang, "Multi-label knowledge distillation", ICCV 2023.

    L = BCE(z_S, y) + a T^2 (1 / N) sum_i sum_k KL(Bernoulli(p_T) || Bernoulli(p_S)),   p = sigmoid(z / T)

a = 10 is its weight in L2D, where T = 1. `reduction` is as in `l2d`.

Differences from the authors' code: they clamp probabilities at 1e-8 before the logarithm; for a logit of 17 or more,
whose probability rounds to 1 in float32, their loss is infinite. Here logarithms of probabilities are computed from
logits, and exact. They have no temperature.

    distiller: {name: mld, weight: 10, temperature: 1}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Gt

from kd.distillers.base import Batch, MultiLabelDistiller, Required

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kd.models.outputs import Arrays


class Method(MultiLabelDistiller):
    """Weights of the two terms, temperature, and how terms are summed."""

    name: Literal["mld"] = "mld"
    weight: Annotated[float, Gt(0)] = 10.0
    """a: weight of the divergences."""
    temperature: Annotated[float, Gt(0)] = 1.0
    """T: softens both teacher and student."""

    REQUIRED = Required(logits=True)

    def loss(self, student: Arrays, teacher: Arrays, batch: Batch, auxiliary: nn.Module | None) -> Tensor:
        """See the formula above."""
        from kd.distillers.losses import logits_divergence

        divergence = logits_divergence(student, teacher, self.temperature)
        return self.combined(student, batch, means=self.weight * divergence)
