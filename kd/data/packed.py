"""Packed datasets: every picture decoded and resized once, stored as uint8 in Zarr with its label.

Layout of a dataset directory: `images.zarr` with a group per split holding `images` (N, H, W, C) uint8,
`labels` (N,) int64 and `ids` (N,) int64; the group's attributes describe the dataset; `samples.csv` says
which source sample each id is.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from kd.data.options import Resize
from kd.data.sources.base import SPLITS, Sample
from kd.data.storage import blocks, create_rows, open_group, read_array, row_size, shard_rows
from kd.jobs.errors import UserError
from kd.jobs.progress import Progress

if TYPE_CHECKING:
    from PIL.Image import Image

STORE = "images.zarr"
DECODERS = 4


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
    """

    name: str
    classes: tuple[str, ...]
    image_size: tuple[int, int]
    resize: Resize
    mean: tuple[float, ...]
    std: tuple[float, ...]
    sizes: dict[str, int]


@dataclass(frozen=True)
class LabelSplit:
    """The samples of one split of a packed dataset, without their pictures.

    Attributes:
        labels: (N,) int64.
        ids: (N,) int64, unique within the dataset over all splits.
    """

    info: DatasetInfo
    labels: np.ndarray
    ids: np.ndarray


@dataclass(frozen=True)
class ImageSplit(LabelSplit):
    """One split of a packed dataset, in memory.

    Attributes:
        images: (N, H, W, C) uint8, C is 1 or 3.
    """

    images: np.ndarray


def pack(
    directory: Path,
    name: str,
    samples: list[Sample],
    codes: np.ndarray,
    classes: list[str],
    *,
    image_size: tuple[int, int],
    resize: Resize,
    channels: int,
) -> DatasetInfo:
    """Decode, resize and store samples.

    Args:
        directory: where the dataset goes.
        name: of the dataset.
        samples: in the order of their ids.
        codes: (len(samples),) index into SPLITS; negative: leave out.
        classes: sorted class names.
        image_size: height and width in pixels.
        resize: `squash` ignores the aspect ratio; `crop` keeps it and cuts the longer side.
        channels: 1: all pictures are grey; 3: they are stored as RGB.

    Raises:
        UserError: a picture cannot be decoded.
    """
    store = directory / STORE
    if store.exists():
        shutil.rmtree(store)
    root = zarr.create_group(store)
    ids = np.cumsum(codes >= 0) - 1
    label_of = {label: index for index, label in enumerate(classes)}
    progress = Progress(int((codes >= 0).sum()), "image")
    moments = None
    for code, split in enumerate(SPLITS):
        members = np.flatnonzero(codes == code)
        group = root.create_group(split)
        labels = np.array([label_of[samples[index].label] for index in members], dtype=np.int64)
        for key, values in (("labels", labels), ("ids", ids[members].astype(np.int64))):
            create_rows(group, key, len(members), (), "int64")[:] = values
        shape = (*image_size, channels)
        array = create_rows(group, "images", len(members), shape, "uint8")
        for rows in blocks(len(members), shard_rows(row_size(shape, "uint8"))):
            chosen = [samples[index] for index in members[rows]]
            pixels = np.stack(list(_decode(chosen, shape, resize, progress)))
            array[rows] = pixels
            if split == "train":
                moments = _add_moments(moments, pixels)
    assert moments is not None
    mean, std = _mean_std(moments)
    sizes = {split: int((codes == code).sum()) for code, split in enumerate(SPLITS)}
    info = DatasetInfo(name, tuple(classes), image_size, resize, mean, std, sizes)
    attributes: dict[str, Any] = {"format": 1, "task": "single_label"} | vars(info)
    root.attrs.update(attributes)
    _write_samples(directory / "samples.csv", samples, codes, ids)
    return info


def read_info(directory: Path) -> DatasetInfo:
    """Describe the packed dataset in a directory."""
    attributes = open_group(directory / STORE).attrs.asdict()
    fields: dict[str, Any] = {key: value for key, value in attributes.items() if key not in ("format", "task")}
    tuples = {key: tuple(fields[key]) for key in ("classes", "image_size", "mean", "std")}
    return DatasetInfo(**(fields | tuples))


def read_labels(directory: Path, split: str) -> LabelSplit:
    """Load the labels and ids of one split of a packed dataset."""
    group = open_group(directory / STORE)
    return LabelSplit(read_info(directory), *(read_array(group, f"{split}/{key}") for key in ("labels", "ids")))


def read_split(directory: Path, split: str) -> ImageSplit:
    """Load one split of a packed dataset into memory."""
    images = read_array(open_group(directory / STORE), f"{split}/images")
    return ImageSplit(**vars(read_labels(directory, split)), images=images)


def resize_image(image: Image, image_size: tuple[int, int], resize: Resize) -> Image:
    """Bring a picture to (height, width) by bicubic interpolation, as timm's evaluation transform does."""
    from PIL import ImageOps
    from PIL.Image import Resampling

    height, width = image_size
    if resize == "squash":
        return image.resize((width, height), Resampling.BICUBIC)
    return ImageOps.fit(image, (width, height), Resampling.BICUBIC)


def _decode(
    samples: list[Sample], shape: tuple[int, int, int], resize: Resize, progress: Progress
) -> Iterator[np.ndarray]:
    """Uint8 of `shape`, (H, W, C), of each sample, in order, decoded by a few threads."""
    mode = "L" if shape[2] == 1 else "RGB"

    def pixels(sample: Sample) -> np.ndarray:
        return np.asarray(resize_image(sample.open().convert(mode), shape[:2], resize)).reshape(shape)

    with ThreadPoolExecutor(DECODERS) as pool:
        for array in pool.map(pixels, samples):
            progress.step()
            yield array


def _add_moments(moments: np.ndarray | None, pixels: np.ndarray) -> np.ndarray:
    """Sums of 1, x and x^2 per channel: (3, C)."""
    values = pixels.reshape(-1, pixels.shape[-1]).astype(np.float64) / 255
    sums = np.stack([np.full(values.shape[1], len(values)), values.sum(0), (values**2).sum(0)])
    return sums if moments is None else moments + sums


def _mean_std(moments: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Per RGB channel; a grey dataset has three equal ones."""
    count, first, second = moments
    mean = first / count
    std = np.sqrt(np.maximum(second / count - mean**2, 1e-8))
    repeat = 3 // len(mean)
    return tuple(np.tile(mean, repeat).tolist()), tuple(np.tile(std, repeat).tolist())


def _write_samples(path: Path, samples: list[Sample], codes: np.ndarray, ids: np.ndarray) -> None:
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "sample", "label", "split"])
        for sample, code, number in zip(samples, codes, ids, strict=True):
            if code >= 0:
                writer.writerow([number, sample.id, sample.label, SPLITS[code]])


def check_classes(labels: list[str], codes: np.ndarray, classes: list[str]) -> None:
    """Refuse datasets that cannot be learned from.

    Raises:
        UserError: fewer than two classes, a class without training images, or an empty split.
    """
    if len(classes) < 2:
        raise UserError(f"only one class, {classes[0]!r}; expected at least two")
    trained = {labels[index] for index in np.flatnonzero(codes == 0)}
    missing = [label for label in classes if label not in trained]
    if missing:
        raise UserError(f"classes without a training image: {missing[:5]}; raise split.train or give them images")
    for code, split in enumerate(SPLITS):
        if not (codes == code).any():
            raise UserError(f"split {split} has no images")
