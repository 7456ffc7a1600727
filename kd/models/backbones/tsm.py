"""TSN whose residual blocks see a part of the channels of the next frame and of the previous one.

Lin et al., "TSM: temporal shift module for efficient video understanding", ICCV 2019, as residual shift.

`architecture` is one of the ResNets of timm, or of what timm builds of their blocks. `kwargs` are those of the
architecture, `segments` as of `tsn`, but at least 2, and `shift_div` (default 8): in front of the first convolution of
each residual block, one in so many channels is taken from the next frame of the view and as many from the previous one,
and zeros where there is none. Where a stage has 23 or more blocks (ResNet-101), this is done in every second block.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge

from kd.common.errors import UserError
from kd.models.backbones import tsn

if TYPE_CHECKING:
    from torch import Tensor, nn

STAGES = ("layer1", "layer2", "layer3", "layer4")
DEEP = 23
"""Blocks of a stage from which on only every second one shifts, as in the authors' ResNet-101."""


class ShiftOptions(tsn.FrameOptions):
    """Which frames a network looks at, and how it mixes them."""

    segments: Annotated[int, Ge(2)]
    """Frames of a view that it looks at: the shift is among these."""
    shift_div: Annotated[int, Ge(2)] = 8
    """One in so many channels comes from the next frame, and as many from the previous one."""


class Kind(tsn.Kind):
    """ResNets of timm, and what is built of such blocks; `segments` and `shift_div` of `kwargs` belong to it."""

    WEIGHTS_OF = ("timm", "tsm")
    OPTIONS = ShiftOptions

    def over_time(self, module: Any, options: tsn.FrameOptions) -> nn.Module:
        """Shift the input of the first convolution of each residual block; the skip path sees its own frame.

        Raises:
            UserError: the network has no such blocks, or they have too few channels.
        """
        assert isinstance(options, ShiftOptions)
        for conv in first_convolutions(module):
            if conv.in_channels < options.shift_div:
                most = f"{conv.in_channels}, the channels of a residual block"
                raise UserError(f"models.kwargs.shift_div: {options.shift_div}, expected at most {most}")
            conv.register_forward_pre_hook(partial(_shift_input, options=options))
        return super().over_time(module, options)


def first_convolutions(module: Any) -> list[Any]:
    """What shifted frames go into, in a network of timm.

    Raises:
        UserError: it is no ResNet, nor built like one.
    """
    stages = [list(getattr(module, name, ())) for name in STAGES]
    if not all(stages) or not all(hasattr(block, "conv1") for blocks in stages for block in blocks):
        raise UserError(
            f"models: backbone tsm shifts the input of `conv1` of residual blocks, which timm's {type(module).__name__}"
            " does not have; expected a ResNet, such as resnet50"
        )
    every = 2 if max(map(len, stages)) >= DEEP else 1
    return [block.conv1 for blocks in stages for block in blocks[::every]]


def shift(frames: Tensor, segments: int, shift_div: int) -> Tensor:
    """Shift channels within each view of `segments` frames: takes and returns (N * segments, C, h, w).

    The first C // shift_div channels come from the next frame, as many after them from the previous one; where there is
    none, they are zero. The memory format stays.
    """
    import torch

    views = frames.reshape(len(frames) // segments, segments, *frames.shape[1:])
    fold = views.shape[2] // shift_div
    shifted = torch.zeros_like(views)
    shifted[:, :-1, :fold] = views[:, 1:, :fold]
    shifted[:, 1:, fold : 2 * fold] = views[:, :-1, fold : 2 * fold]
    shifted[:, :, 2 * fold :] = views[:, :, 2 * fold :]
    return shifted.flatten(0, 1)


def _shift_input(_: nn.Module, inputs: tuple[Tensor], options: ShiftOptions) -> Tensor:
    return shift(inputs[0], options.segments, options.shift_div)
