"""`digits`: 1,797 handwritten digits of 8 x 8 pixels (scikit-learn's load_digits; UCI optdigits, test part)."""

from __future__ import annotations

import importlib.metadata
from functools import partial
from typing import TYPE_CHECKING, Any

from kd.common.options import BaseOptions
from kd.data.options import Task
from kd.data.sources.base import Listing, Sample

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

CHANNELS = 1
TASKS: tuple[Task, ...] = ("single_label",)


class Options(BaseOptions):
    """No options: the data come inside the package."""


def fingerprint(options: Options) -> dict[str, Any]:
    """The version of the package that ships the data."""
    return {"scikit-learn": importlib.metadata.version("scikit-learn")}


def read(options: Options) -> Listing:
    """Ten classes, `0` to `9`."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = zip(data.images, data.target, strict=True)
    return Listing(
        [
            Sample(id=f"{index:04d}", labels=(str(label),), open=partial(_image, pixels))
            for index, (pixels, label) in enumerate(images)
        ]
    )


def _image(pixels: np.ndarray) -> Image:
    """(8, 8) float in 0..16 to 8-bit grey."""
    import numpy as np
    from PIL import Image

    return Image.fromarray(np.round(pixels * (255 / 16)).astype(np.uint8))
