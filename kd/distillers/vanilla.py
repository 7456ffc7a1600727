"""Labels alone: the same training without a teacher, which every method is compared with.

    L = w CE(z_S, y)

Multi-label: binary cross-entropy, summed over labels, mean over the batch.

Differences from the authors' code: none, as there is no method that it could differ from.

    distiller: {name: vanilla}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Gt

from kd.distillers.base import Batch, Distiller, Required

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kd.models.outputs import Arrays


class Method(Distiller):
    """Weight of the labels."""

    name: Literal["vanilla"] = "vanilla"
    label_weight: Annotated[float, Gt(0)] = 1.0
    """w: weight of the label loss."""

    REQUIRED = Required()

    def loss(self, student: Arrays, teacher: Arrays, batch: Batch, auxiliary: nn.Module | None) -> Tensor:
        """See the formula above."""
        from kd.distillers.losses import label_loss

        return self.label_weight * label_loss(student, batch.labels)
