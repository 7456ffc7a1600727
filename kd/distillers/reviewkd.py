"""ReviewKD: maps of several levels, fused from deep to shallow.

Chen, Liu, Zhao, Jia, "Distilling knowledge via knowledge review", CVPR 2021.

    L = u(epoch) a sum_levels HCL(f_level, map_T) + w label loss

The student's maps are fused from deep to shallow (ABF). Each is brought to `mid` channels by a 1x1 conv with BN; from
the second one on, the fused map of the level above, at its size, is mixed in, with two maps of attention that a 1x1
conv with a sigmoid draws from both. f is the fused map after a 3x3 conv with BN to the teacher's channels, on its grid.
`mid` is the channels of the student's deepest map, at most 512.

HCL is the mean squared error of the maps themselves and of both pooled to 4x4, 2x2 and 1x1, with the weights 1, 1/2,
1/4, 1/8 over their sum; poolings that would not shrink the map are left out, and give their weights to the next.

u grows linearly to 1 over the first `warmup` epochs. a = 1 is the authors' for ImageNet, 20 epochs are theirs for
CIFAR-100.

Differences from the authors' code: their student also has the pooled vector as its deepest level, here it has the maps
alone. Where the grids of both differ, maps are averaged or interpolated before the 3x3 conv; theirs takes nearest
places, and hands those on. Convs start as torch initialises them by default; theirs with kaiming_uniform, a = 1, of
weights 1.7 times as large.

    distiller: {name: reviewkd, levels: [L4, L3, L2], weight: 1, warmup: 20}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt

from kd.distillers.base import Batch, Distiller, MapLevels, Required, Shapes
from kd.models.spec import Level

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kd.models.outputs import Arrays

MOST_CHANNELS = 512
POOLED = (4, 2, 1)


class Method(Distiller):
    """Which maps are compared, weights and warm-up."""

    name: Literal["reviewkd"] = "reviewkd"
    levels: MapLevels = ("L4", "L3", "L2")
    """Levels of the maps that are fused and compared."""
    weight: Annotated[float, Gt(0)] = 1.0
    """a: weight of the errors of fused maps."""
    warmup: Annotated[int, Ge(1)] = 20
    """Epochs over which these errors gain their weight linearly; 1: they have it at once."""

    def required(self, level: Level | None = None) -> Required:
        """The maps."""
        return Required(self.levels)

    def auxiliary(self, student: Shapes, teacher: Shapes, samples: int) -> nn.Module:
        """The fusing modules: for each level `<level>_in`, `<level>_attention` (not the deepest) and `<level>_out`."""
        from torch import nn

        deepest, *shallower = sorted(self.levels)
        middle = min(MOST_CHANNELS, student[deepest][0])
        auxiliary = nn.ModuleDict()
        for level in (deepest, *shallower):
            auxiliary[f"{level}_in"] = nn.Sequential(
                nn.Conv2d(student[level][0], middle, kernel_size=1, bias=False), nn.BatchNorm2d(middle)
            )
            channels = teacher[level][0]
            auxiliary[f"{level}_out"] = nn.Sequential(
                nn.Conv2d(middle, channels, kernel_size=3, padding=1, bias=False), nn.BatchNorm2d(channels)
            )
        for level in shallower:
            auxiliary[f"{level}_attention"] = nn.Sequential(nn.Conv2d(2 * middle, 2, kernel_size=1), nn.Sigmoid())
        return auxiliary

    def loss(self, student: Arrays, teacher: Arrays, batch: Batch, auxiliary: nn.Module | None) -> Tensor:
        """See the formula above."""
        import torch
        from torch.nn import functional

        from kd.distillers.losses import at, label_loss, warm_up, widened
        from kd.models.network import resample

        assert isinstance(auxiliary, torch.nn.ModuleDict)
        error = torch.zeros((), device=batch.labels.device)
        fused: Tensor | None = None
        for level in sorted(self.levels):  # from deep to shallow
            student_maps = auxiliary[f"{level}_in"](at(student, level))
            if fused is not None:
                above = functional.interpolate(fused, size=student_maps.shape[2:])
                shares = auxiliary[f"{level}_attention"](torch.cat([student_maps, above], dim=1))
                student_maps = student_maps * shares[:, :1] + above * shares[:, 1:]
            fused = student_maps
            teacher_maps = at(teacher, level)
            compared = auxiliary[f"{level}_out"](resample(student_maps, teacher_maps.shape[2:]))
            error = error + _hierarchical_error(widened(compared), teacher_maps)
        weight = self.weight * warm_up(batch.epoch, self.warmup)
        return self.label_weight * label_loss(student, batch.labels) + weight * error


def _hierarchical_error(student_maps: Tensor, teacher_maps: Tensor) -> Tensor:
    from torch.nn import functional

    error, weight, total = functional.mse_loss(student_maps, teacher_maps), 1.0, 1.0
    for size in POOLED:
        if size < min(student_maps.shape[2:]):
            weight /= 2
            total += weight
            pooled, target = (functional.adaptive_avg_pool2d(maps, size) for maps in (student_maps, teacher_maps))
            error = error + weight * functional.mse_loss(pooled, target)
    return error / total
