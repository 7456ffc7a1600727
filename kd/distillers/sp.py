"""SP: which samples of a batch are alike.

Tung, Mori, "Similarity-preserving knowledge distillation", ICCV 2019.

    L = a |G_S - G_T|^2 / N^2 + w label loss

G (N, N) holds the scalar products of the N samples of the batch, each row at unit length; widths and grids of student
and teacher may differ. The default a = 3000 is that of CRD's comparisons (ICLR 2020).

Differences from the authors' code: a row of G counts as 1e-6 long at least, as otherwise gradients would grow without
bound where maps die.

    distiller: {name: sp, level: L2, weight: 3000}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Gt

from kd.distillers.base import Batch, Distiller, Required
from kd.models.spec import Level

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kd.models.outputs import Arrays


class Method(Distiller):
    """What is compared, and weights."""

    name: Literal["sp"] = "sp"
    level: Level = "L2"
    """Level of the maps, or of the vectors (L1), that are compared."""
    weight: Annotated[float, Gt(0)] = 3000.0
    """a: weight of the squared difference of similarities."""

    NEEDS_GLOBAL_BATCH = True

    def required(self, level: Level | None = None) -> Required:
        """Maps or vectors of one level."""
        return Required((self.level,))

    def loss(self, student: Arrays, teacher: Arrays, batch: Batch, auxiliary: nn.Module | None) -> Tensor:
        """See the formula above."""
        from torch.nn import functional

        from kd.distillers.losses import at, directions, label_loss, products

        def similarities(values: Tensor) -> Tensor:
            """(N, ...) to (N, N)."""
            rows = values.flatten(1)
            return directions(products(rows, rows))

        error = functional.mse_loss(similarities(at(student, self.level)), similarities(at(teacher, self.level)))
        return self.label_weight * label_loss(student, batch.labels) + self.weight * error
