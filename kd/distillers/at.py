"""AT: attention transfer.

Zagoruyko, Komodakis, "Paying more attention to attention: improving the performance of convolutional neural networks
via attention transfer", ICLR 2017.

    L = a sum_levels mean (q_S - q_T)^2 + w label loss,   q = v / |v|,   v = sum over channels of map^2

q has an entry for each place of the grid. The mean is over samples and places. The default a = 1000 is that of CRD's
comparisons (ICLR 2020). Where the grids differ, a student's map is resampled to the teacher's grid.

Differences from the authors' code: where the grids differ, theirs shrinks the larger map to the smaller grid; so where
the student's is the smaller one, a = 1000 means something else than there. |v| counts as 1e-6 at least here, as
otherwise gradients would grow without bound where a map dies.

    distiller: {name: at, levels: [L4, L3, L2], weight: 1000}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Gt

from kd.distillers.base import Batch, Distiller, MapLevels, Required
from kd.models.spec import Level

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kd.models.outputs import Arrays


class Method(Distiller):
    """Which maps are compared, and weights."""

    name: Literal["at"] = "at"
    levels: MapLevels = ("L4", "L3", "L2")
    """Levels of the maps that are compared."""
    weight: Annotated[float, Gt(0)] = 1000.0
    """a: weight of the squared difference of attention."""

    def required(self, level: Level | None = None) -> Required:
        """The maps."""
        return Required(self.levels)

    def loss(self, student: Arrays, teacher: Arrays, batch: Batch, auxiliary: nn.Module | None) -> Tensor:
        """See the formula above."""
        from torch.nn import functional

        from kd.distillers.losses import at, directions, label_loss
        from kd.models.network import resample

        def attention(maps: Tensor) -> Tensor:
            return directions(maps.square().sum(dim=1).flatten(1))

        total = self.label_weight * label_loss(student, batch.labels)
        for level in self.levels:
            teacher_maps = at(teacher, level)
            student_maps = resample(at(student, level), teacher_maps.shape[2:])
            total = total + self.weight * functional.mse_loss(attention(student_maps), attention(teacher_maps))
        return total
