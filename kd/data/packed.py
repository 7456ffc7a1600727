"""Packed datasets: every picture decoded and resized once, stored as uint8 in Zarr with its labels.

Layout of a dataset directory: `images.zarr` with a group per split holding `images` (N, H, W, C) uint8,
`labels` (N,) int64, or (N, classes) uint8 of 0 and 1 in a multi-label dataset, and `ids` (N,) int64; the group's
attributes describe the dataset; `samples.csv` says which source sample each id is. The rows of a split are in a
random order, drawn once, so that a chunk of consecutive rows holds pictures of all classes; ids count the rows
of train, val and test in this order.
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
import zarr
from pydantic import TypeAdapter, ValidationError

from kd.data.options import Resize, Task
from kd.data.sources.base import SEPARATOR, SPLITS, Sample
from kd.data.storage import RowArray, create_group, create_rows, open_group, open_rows, spans, write_column
from kd.jobs.errors import UserError, shown
from kd.jobs.files import replacing
from kd.jobs.progress import Progress

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger("kd")

STORE, SAMPLES = "images.zarr", "samples.csv"
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
        task: what the labels are: one class a picture, or any number.
        most_labels: of one picture.
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


def pack(
    directory: Path,
    name: str,
    samples: list[Sample],
    codes: np.ndarray,
    classes: list[str],
    *,
    task: Task,
    image_size: tuple[int, int],
    resize: Resize,
    channels: int,
) -> DatasetInfo:
    """Decode, resize and store samples; chunks that an interrupted attempt stored are kept.

    Args:
        directory: where the dataset goes.
        name: of the dataset.
        samples: in the order of their ids in the source.
        codes: (len(samples),) index into SPLITS; negative: leave out.
        classes: sorted class names.
        task: what the labels are.
        image_size: height and width in pixels.
        resize: `squash` ignores the aspect ratio; `crop` keeps it and cuts the longer side.
        channels: 1: all pictures are grey; 3: they are stored as RGB.

    Raises:
        UserError: a picture cannot be decoded, or does not have as many labels as the task wants.
    """
    labels = encode_labels(samples, classes, task)
    root = create_group(directory / STORE, {})
    members = [_shuffled(np.flatnonzero(codes == code), code) for code in range(len(SPLITS))]
    progress = Progress(sum(map(len, members)), "image")
    moments = np.zeros((3, channels))
    first = 0
    for split, rows in zip(SPLITS, members, strict=True):
        group = root.require_group(split)
        ids = np.arange(first, first + len(rows))
        first += len(rows)
        for key, values in (("labels", labels[rows]), ("ids", ids)):
            write_column(group, key, values)
        images = create_rows(group, "images", len(rows), (*image_size, channels), "uint8")
        for pixels in _fill(images, [samples[index] for index in rows], resize, progress):
            if split == "train":
                moments += _moments(pixels)
    mean, std = _mean_std(moments)
    sizes = {split: len(rows) for split, rows in zip(SPLITS, members, strict=True)}
    info = DatasetInfo(name, tuple(classes), image_size, resize, mean, std, sizes, task, most_labels(samples))
    attributes: dict[str, Any] = vars(info)
    root.attrs.update(attributes)
    with replacing(directory / SAMPLES) as partial, partial.open("w", newline="") as stream:
        write_samples(stream, [[samples[index] for index in rows] for rows in members])
    return info


def most_labels(samples: list[Sample]) -> int:
    """The largest number of labels of a sample, 1 at least."""
    return max(1, *(len(sample.labels) for sample in samples))


def _shuffled(members: np.ndarray, code: int) -> np.ndarray:
    """The same random order whenever the same samples are packed."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(code))).permutation(members)


def _fill(images: RowArray, samples: list[Sample], resize: Resize, progress: Progress) -> Iterator[np.ndarray]:
    """Store all pictures of a split, chunk by chunk, and yield the pixels of each chunk."""
    for rows in spans(images.rows, images.chunk):
        try:
            pixels = images.read(rows)
            progress.step(len(pixels))
        except UserError:  # not there yet
            pixels = np.stack(list(_decode(samples[rows], images.row_shape, resize, progress)))
            images.write(rows, pixels)
        yield pixels


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


def _decode(samples: list[Sample], shape: tuple[int, ...], resize: Resize, progress: Progress) -> Iterator[np.ndarray]:
    """Uint8 of `shape`, (H, W, C), of each sample, in order, decoded by a few threads."""
    mode = "L" if shape[2] == 1 else "RGB"

    size = (shape[0], shape[1])

    def pixels(sample: Sample) -> np.ndarray:
        return np.asarray(resize_image(sample.open().convert(mode), size, resize)).reshape(shape)

    with ThreadPoolExecutor(DECODERS) as pool:
        for array in pool.map(pixels, samples):
            progress.step()
            yield array


def _moments(pixels: np.ndarray) -> np.ndarray:
    """Sums of 1, x and x^2 per channel: (3, C)."""
    values = pixels.reshape(-1, pixels.shape[-1]).astype(np.float64) / 255
    return np.stack([np.full(values.shape[1], len(values)), values.sum(0), (values**2).sum(0)])


def _mean_std(moments: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Per RGB channel; a grey dataset has three equal ones."""
    count, first, second = moments
    mean = first / count
    std = np.sqrt(np.maximum(second / count - mean**2, 1e-8))
    repeat = 3 // len(mean)
    return tuple(np.tile(mean, repeat).tolist()), tuple(np.tile(std, repeat).tolist())


def write_samples(stream: TextIO, splits: list[list[Sample]]) -> None:
    """Say in CSV which sample each id is; samples of train, val and test in the order of their ids."""
    rows = [(sample, split) for split, samples in zip(SPLITS, splits, strict=True) for sample in samples]
    writer = csv.writer(stream)
    writer.writerow(["id", "sample", "label", "split"])
    for number, (sample, split) in enumerate(rows):
        writer.writerow([number, sample.id, SEPARATOR.join(sample.labels), split])


def encode_labels(samples: list[Sample], classes: list[str], task: Task) -> np.ndarray:
    """Labels as numbers.

    Args:
        samples: N, whose labels are all among `classes`.
        classes: sorted class names.
        task: decides the form.

    Returns:
        (N,) int64 indices into `classes`, or for `multi_label` (N, classes) uint8 of 0 and 1.

    Raises:
        UserError: a sample does not have exactly one label, and the task is `single_label`.
    """
    number = {label: index for index, label in enumerate(classes)}
    if task == "multi_label":
        encoded = np.zeros((len(samples), len(classes)), dtype=np.uint8)
        for row, sample in enumerate(samples):
            encoded[row, [number[label] for label in sample.labels]] = 1
        return encoded
    for sample in samples:
        if len(sample.labels) != 1:
            raise UserError(f"{sample.id}: labels are {list(sample.labels)}, expected exactly one (single_label)")
    return np.array([number[sample.labels[0]] for sample in samples], dtype=np.int64)


def check_classes(labels: np.ndarray, codes: np.ndarray, classes: list[str], *, listed: bool) -> None:
    """Refuse datasets that cannot be learned from.

    Args:
        labels: of all samples, as `encode_labels` gives them.
        codes: (N,) index into SPLITS; negative: left out.
        classes: sorted class names.
        listed: the source came with this list of classes. In a multi-label dataset these may then lack training
            images, which is said in the log.

    Raises:
        UserError: fewer than two classes, a class without training images, an empty split, or a name that
            samples.csv cannot hold.
    """
    if len(classes) < 2:
        raise UserError(f"expected at least two classes, found {classes}")
    multi = labels.ndim == 2
    unwritable = [label for label in classes if multi and SEPARATOR in label]
    if unwritable:
        raise UserError(f"class {unwritable[0]!r} holds {SEPARATOR!r}, which separates labels in {SAMPLES}; rename it")
    trained = labels[codes == 0]
    positives = trained.sum(axis=0, dtype=np.int64) if multi else np.bincount(trained, minlength=len(classes))
    missing = [label for label, count in zip(classes, positives, strict=True) if count == 0]
    if missing and multi and listed:
        log.warning("%d of %d classes have no training image, such as %s", len(missing), len(classes), missing[:5])
    elif missing:
        raise UserError(f"classes without a training image: {missing[:5]}; raise split.train or give them images")
    for code, split in enumerate(SPLITS):
        if not (codes == code).any():
            raise UserError(f"split {split} has no images")
