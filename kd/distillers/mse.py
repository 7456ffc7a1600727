"""MSE: squared error of logits.

A baseline of the L2D paper (ICCV 2023), which does not define it; this definition is ours.

    L = a (1 / N) sum_i sum_k (z_S - z_T)^2 + w label loss

Weights for it were not published: a = 1 is ours. Multi-label, `reduction` is as in `l2d`; with single labels the
label loss is the mean cross-entropy and `reduction` changes nothing.

    distiller: {name: mse, weight: 1}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge, Gt

from kd.distillers.base import Batch, Distiller, Reduction, Required

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kd.models.outputs import Arrays


class Method(Distiller):
    """Weights of the two terms, and how they are summed."""

    name: Literal["mse"] = "mse"
    weight: Annotated[float, Gt(0)] = 1.0
    """a: of the squared error."""
    label_weight: Annotated[float, Ge(0)] = 1.0
    """w: of the label loss."""
    reduction: Reduction = "paper"
    """Multi-label only. paper: label loss as a sum over the batch; batch_mean: all as means, see `l2d`."""

    REQUIRED: ClassVar[Required] = Required(logits=True)

    def loss(self, student: Arrays, teacher: Arrays, batch: Batch, auxiliary: nn.Module | None) -> Tensor:
        """See the formula above."""
        from kd.distillers.losses import at, combined, label_loss

        label = self.label_weight * label_loss(student, batch.labels)
        error = self.weight * (at(student, "logits") - at(teacher, "logits")).square().sum(dim=1).mean()
        if batch.labels.ndim == 1:
            return label + error
        return combined(label, batch, self.reduction, means=error)
