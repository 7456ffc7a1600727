"""A modality, a backbone and a source that nobody else knows: clips of 4 frames in which a square moves.

Which way it moves cannot be seen in one frame. For `test_modality`, which names this module in a config.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kd.common.options import BaseOptions
from kd.data.draws import draw
from kd.data.modalities.base import Modality, Shape
from kd.data.sources.base import Listing, Sample
from kd.models.backbones.base import Backbone
from kd.models.spec import Level, ModelSpec, NetworkConfig

MODALITY = "tests.workflow.toy_clips"
TASKS = ("single_label",)
CHANNELS = 1
STEPS = {"down": (1, 0), "left": (0, -1), "right": (0, 1), "up": (-1, 0)}


class Options(BaseOptions):
    """How many clips there are."""

    count: int = 60


def fingerprint(options: Options) -> dict[str, Any]:
    return {"count": options.count}


def read(options: Options) -> Listing:
    names = [(label, number) for label in STEPS for number in range(options.count)]
    return Listing([Sample(f"{label}{number}", (label,), partial(clip, label, number)) for label, number in names])


def clip(label: str, number: int) -> np.ndarray:
    """(4, 12, 12) uint8: a bright square that goes one way, and comes in again at the other side."""
    rng = np.random.default_rng([number, sorted(STEPS).index(label)])
    place = rng.integers(0, 12, 2)
    frames = rng.integers(0, 60, (4, 12, 12), dtype=np.uint8)
    for time, frame in enumerate(frames):
        rows, columns = (np.arange(4) + place[axis] + 2 * time * STEPS[label][axis] for axis in (0, 1))
        frame[np.ix_(rows % 12, columns % 12)] = 250
    return frames


class Samples(Modality):
    """Clips of some frames, at the size that they have."""

    frames: int = 4

    def shape(self, channels: int) -> Shape:
        return (self.frames, 12, 12, channels)

    def decode(self, opened: np.ndarray, out: np.ndarray) -> tuple[str, ...]:
        out[...] = opened[: self.frames, :, :, None]
        return ("clips that were cut",) if self.frames < len(opened) else ()


def plain(samples: Samples, stored: Tensor) -> Tensor:  # noqa: ARG001
    """(B, T, H, W, 1) uint8 to (B, T, 3, H, W)."""
    return stored.permute(0, 1, 4, 2, 3).float().div(255).expand(-1, -1, 3, -1, -1)


def views(samples: Samples, stream: Any, dataset: str, seed: int, augmentation: Any) -> Any:
    """Rolled by some pixels, all frames of a clip alike."""

    def view(stored: Tensor, ids: np.ndarray, number: int) -> Tensor:
        clips = plain(samples, stored)
        if augmentation is None:
            return clips
        shifts = (draw(stream, seed, dataset, number, ids)[:, :2] * 12).astype(int).tolist()
        return torch.stack([each.roll(shift, dims=(2, 3)) for each, shift in zip(clips, shifts, strict=True)])

    return view


class Frames(nn.Module):
    """Three convolutions over the frames of a clip, which are its channels: a map after each."""

    def __init__(self, frames: int, width: int) -> None:
        super().__init__()
        widths = [3 * frames, width, width, width]
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, stride=s, padding=1), nn.BatchNorm2d(b), nn.ReLU())
            for a, b, s in zip(widths, widths[1:], (1, 2, 2), strict=False)
        )

    def forward(self, clips: Tensor) -> list[Tensor]:
        found, values = [], clips.flatten(1, 2)
        for stage in self.stages:
            values = stage(values)
            found.append(values)
        return found


class Kind(Backbone):
    """How it is used."""

    MODALITY = MODALITY

    def configure(self, model: ModelSpec, dataset: Any) -> dict[str, Any]:
        kwargs = {"frames": dataset.samples.frames, "width": 16} | model.kwargs
        return {"kwargs": kwargs, "input_size": (12, 12), "mean": dataset.mean, "std": dataset.std}

    def create(self, config: NetworkConfig) -> nn.Module:
        return Frames(**config.kwargs)

    def width(self, module: nn.Module) -> tuple[int, int]:
        channels = int(module.stages[-1][0].out_channels)  # type: ignore[index, union-attr]
        return channels, channels

    def forward(self, module: nn.Module, inputs: Tensor, levels: Sequence[Level]) -> tuple[Tensor, dict[str, Tensor]]:
        maps = dict(zip(("L4", "L3", "L2"), module(inputs), strict=True))
        return maps["L2"].mean(dim=(2, 3)), {level: maps[level] for level in levels}

    def example(self, config: NetworkConfig) -> Tensor:
        return torch.zeros(1, config.kwargs["frames"], 3, 12, 12)
