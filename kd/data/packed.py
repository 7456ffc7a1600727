"""Packed datasets: every picture decoded and resized once, stored as uint8 in Zarr with its labels.

Layout of a dataset directory: `images.zarr` with a group per split holding `images` (N, H, W, C) uint8,
`labels` (N,) int64, or (N, classes) uint8 of 0 and 1 in a multi-label dataset, and `ids` (N,) int64; the group's
attributes describe the dataset; `samples.csv` says which source sample each id is. The rows of a split are in a
random order, drawn once, so that a chunk of consecutive rows holds pictures of all classes; ids count the rows
of train, val and test in this order.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from pydantic import TypeAdapter, ValidationError

from kd.data.options import WHITE, Colour, Resize, Task
from kd.data.storage import RowArray, open_group, open_rows
from kd.jobs.errors import UserError, shown

if TYPE_CHECKING:
    from PIL.Image import Image

STORE, SAMPLES = "images.zarr", "samples.csv"


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a packed dataset without reading its pictures.

    Attributes:
        name: name in the config; part of the seed of its views.
        classes: sorted class names; a label is an index into them.
        image_size: height and width in pixels.
        resize: how pictures were brought to that size.
        mean, std: of the training pictures, per RGB channel, in units of 0..1.
        sizes: images per split.
        task: what the labels are: one class a picture, or any number.
        most_labels: of one picture.
        ground: red, green and blue in 0..255 that transparent images were laid on.
    """

    name: str
    classes: tuple[str, ...]
    image_size: tuple[int, int]
    resize: Resize
    mean: tuple[float, ...]
    std: tuple[float, ...]
    sizes: dict[str, int]
    task: Task = "single_label"
    most_labels: int = 1
    ground: Colour = WHITE


_INFO = TypeAdapter(DatasetInfo)  # what a store says of itself is checked


@dataclass(frozen=True)
class Split:
    """One split of a packed dataset; its pictures stay on disk until they are read.

    Attributes:
        name: `train`, `val` or `test`.
        labels: (N,) int64 class ids; of a multi-label dataset (N, classes) uint8 of 0 and 1.
        ids: (N,) int64, unique within the dataset over all splits.
        images: (N, H, W, C) uint8, C is 1 or 3.
    """

    info: DatasetInfo
    name: str
    labels: np.ndarray
    ids: np.ndarray
    images: RowArray


def read_info(directory: Path) -> DatasetInfo:
    """Describe the packed dataset in a directory."""
    return _info(open_group(directory / STORE))


def _info(root: zarr.Group) -> DatasetInfo:
    attributes: dict[str, Any] = root.attrs.asdict()
    try:
        return _INFO.validate_python({field.name: attributes[field.name] for field in fields(DatasetInfo)})
    except (KeyError, ValidationError) as error:
        raise UserError(f"{root.store_path}: its attributes describe no packed dataset ({shown(error)})") from error


def open_split(directory: Path, name: str) -> Split:
    """One split of a packed dataset: labels and ids in memory, pictures on disk."""
    root = open_group(directory / STORE)
    labels, ids, images = (open_rows(root, f"{name}/{key}") for key in ("labels", "ids", "images"))
    return Split(_info(root), name, labels.read(), ids.read(), images)


def resize_image(image: Image, image_size: tuple[int, int], resize: Resize) -> Image:
    """Bring a picture to (height, width) by bicubic interpolation, as timm's evaluation transform does."""
    from PIL import ImageOps
    from PIL.Image import Resampling

    height, width = image_size
    if resize == "squash":
        return image.resize((width, height), Resampling.BICUBIC)
    return ImageOps.fit(image, (width, height), Resampling.BICUBIC)
