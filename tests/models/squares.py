"""A source of clips without files: a bright square that goes one of four ways, which no single frame shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from kd.common.options import BaseOptions
from kd.data.sources.base import Listing, Sample

MODALITY = "clip"
TASKS = ("single_label",)
CHANNELS = 3
STEPS = {"down": (1, 0), "left": (0, -1), "right": (0, 1), "up": (-1, 0)}


class Options(BaseOptions):
    """How many clips there are of each class."""

    count: int = 10


def fingerprint(options: Options) -> dict[str, Any]:
    return {"count": options.count}


def read(options: Options) -> Listing:
    names = [(label, number) for label in STEPS for number in range(options.count)]
    return Listing([Sample(f"{label}{number}", (label,), partial(Moving, label, number)) for label, number in names])


@dataclass(frozen=True)
class Moving:
    """Stands in for a video: 16 frames of 32 x 32 pixels."""

    label: str
    number: int

    def read(
        self, choose: Callable[[int], np.ndarray], convert: Callable[[Image.Image], np.ndarray]
    ) -> tuple[list[np.ndarray], int, tuple[str, ...]]:
        rng = np.random.default_rng([self.number, sorted(STEPS).index(self.label)])
        place, frames = rng.integers(0, 32, 2), []
        for time in range(16):
            pixels = rng.integers(0, 60, (32, 32, 3), dtype=np.uint8)
            rows, columns = (np.arange(9) + place[axis] + 2 * time * STEPS[self.label][axis] for axis in (0, 1))
            pixels[np.ix_(rows % 32, columns % 32)] = 250
            frames.append(Image.fromarray(pixels))
        return [convert(frames[index]) for index in choose(16).tolist()], 16, ()
