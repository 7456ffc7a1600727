"""FitNet: a map of the teacher as a hint.

Romero, Ballas, Kahou, Chassang, Gatta, Bengio, "FitNets: hints for thin deep nets", ICLR 2015.

    L = a MSE(r(map_S), map_T) + w label loss

r is a trained 1x1 conv to the teacher's channels, resampled to the teacher's grid; MSE is the element mean. The default
a = 100 is that of CRD's comparisons (ICLR 2020).

Differences from the authors' code: hint and labels are learnt together, as in the code of CRD's comparisons, and not
one after the other as in the paper. In that code batch norm and a ReLU follow the conv; here it is linear.

    distiller: {name: fitnet, level: L3, weight: 100}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Gt

from kd.distillers.base import Batch, Distiller, Required, Shapes
from kd.models.spec import Level, MapLevel

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kd.models.outputs import Arrays


class Method(Distiller):
    """Which map is the hint, and weights."""

    name: Literal["fitnet"] = "fitnet"
    level: MapLevel = "L3"
    """Level of the map that is compared."""
    weight: Annotated[float, Gt(0)] = 100.0
    """a: weight of the mean squared error between maps."""

    def required(self, level: Level | None = None) -> Required:
        """The one map."""
        return Required((self.level,))

    def auxiliary(self, student: Shapes, teacher: Shapes, samples: int) -> nn.Module:
        """The regressor: a 1x1 conv."""
        from torch import nn

        return nn.Conv2d(student[self.level][0], teacher[self.level][0], kernel_size=1)

    def loss(self, student: Arrays, teacher: Arrays, batch: Batch, auxiliary: nn.Module | None) -> Tensor:
        """See the formula above."""
        from torch.nn import functional

        from kd.distillers.losses import at, label_loss, widened
        from kd.models.network import resample

        assert auxiliary is not None
        teacher_maps = at(teacher, self.level)
        student_maps = resample(widened(auxiliary(at(student, self.level))), teacher_maps.shape[2:])
        error = functional.mse_loss(student_maps, teacher_maps)
        return self.label_weight * label_loss(student, batch.labels) + self.weight * error
