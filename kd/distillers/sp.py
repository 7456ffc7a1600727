"""SP: which samples of a batch are alike.

Tung, Mori, "Similarity-preserving knowledge distillation", ICCV 2019.

    L = a |G_S - G_T|^2 / N^2 + w label loss

G (N, N) holds the scalar products of the N samples of the batch, each row at unit length; widths and grids of student
and teacher may differ. The default a = 3000 is that of CRD's comparisons (ICLR 2020). A row counts as 1e-6 long at
least, as otherwise gradients would grow without bound where maps die.

    distiller: {name: sp, level: L2, weight: 3000}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge, Gt

from kd.distillers.base import Batch, Distiller, Required
from kd.models.spec import Level

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kd.models.outputs import Arrays


class Method(Distiller):
    """What is compared, and weights."""

    name: Literal["sp"] = "sp"
    level: Level = "L2"
    """Of the maps, or vectors (L1), that are compared."""
    weight: Annotated[float, Gt(0)] = 3000.0
    """a: of the squared difference of similarities."""
    label_weight: Annotated[float, Ge(0)] = 1.0
    """w: of the label loss."""

    NEEDS_GLOBAL_BATCH: ClassVar[bool] = True

    def required(self, level: Level | None) -> Required:
        """Maps or vectors of one level."""
        return Required((self.level,))

    def loss(self, student: Arrays, teacher: Arrays, batch: Batch, auxiliary: nn.Module | None) -> Tensor:
        """See the formula above."""
        from torch.nn import functional

        from kd.distillers.losses import at, label_loss

        student_similarities, teacher_similarities = (
            _similarities(at(each, self.level)) for each in (student, teacher)
        )
        return self.label_weight * label_loss(student, batch.labels) + self.weight * functional.mse_loss(
            student_similarities, teacher_similarities
        )


def _similarities(values: Tensor) -> Tensor:
    """(N, ...) to (N, N)."""
    from kd.distillers.losses import directions, products

    rows = values.flatten(1)
    return directions(products(rows, rows))
