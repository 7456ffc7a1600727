"""MSE: squared error of logits.

A baseline of L2D's paper (Yang et al., "Multi-label knowledge distillation", ICCV 2023).

    L = a (1 / N) sum_i sum_k (z_S - z_T)^2 + w label loss

Multi-label, `reduction` is as in `l2d`; with single labels the label loss is the mean cross-entropy and `reduction`
changes nothing.

Differences from the authors' code: the paper does not define this baseline, gives no weight for it, and its code does
not have it. The definition and a = 1 are ours.

    distiller: {name: mse, weight: 1}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Gt

from kd.distillers.base import Batch, MultiLabelDistiller, Required

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kd.models.outputs import Arrays


class Method(MultiLabelDistiller):
    """Weights of the two terms, and how they are summed."""

    name: Literal["mse"] = "mse"
    weight: Annotated[float, Gt(0)] = 1.0
    """a: weight of the squared error."""

    TASKS = ("single_label", "multi_label")
    REQUIRED = Required(logits=True)

    def loss(self, student: Arrays, teacher: Arrays, batch: Batch, auxiliary: nn.Module | None) -> Tensor:
        """See the formula above."""
        from kd.distillers.losses import at

        error = (at(student, "logits") - at(teacher, "logits")).square().sum(dim=1).mean()
        return self.combined(student, batch, means=self.weight * error)
