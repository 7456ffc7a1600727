"""`digits`: 1,797 handwritten digits of 8 x 8 pixels (scikit-learn's; UCI optdigits, test part)."""

from __future__ import annotations

import importlib.metadata
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from kd.common.options import BaseOptions
from kd.data.sources.base import Listing, Sample

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

CHANNELS = 1


class Options(BaseOptions):
    """No options: the data come inside the package."""


def fingerprint(options: Options) -> dict[str, Any]:
    """The version of the package that ships the data."""
    return {"scikit-learn": importlib.metadata.version("scikit-learn")}


def read(options: Options) -> Listing:
    """Ten classes, `0` to `9`."""
    rows = load()
    return Listing(
        [
            Sample(id=f"{index:04d}", labels=(str(row[-1]),), open=partial(_image, row[:-1].reshape(8, 8)))
            for index, row in enumerate(rows)
        ]
    )


@cache
def load() -> np.ndarray:
    """(1797, 65) int64: 64 pixels in 0..16 and the label; read without scikit-learn, whose import takes seconds."""
    import numpy as np

    path = importlib.metadata.distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")
    return np.loadtxt(str(path), delimiter=",", dtype=np.int64)


def _image(pixels: np.ndarray) -> Image:
    """(8, 8) int64 in 0..16 to 8-bit grey."""
    import numpy as np
    from PIL import Image

    return Image.fromarray(np.round(pixels * (255 / 16)).astype(np.uint8))
