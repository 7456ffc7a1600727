"""Packed datasets: every sample decoded and resized once, stored as uint8 in Zarr with its labels.

A directory has `images.zarr`, a store with a group for each split (`train`, `val`, `test`), and `samples.csv`, which
says which sample of the source each id is. Arrays of a group:

- `images`: (N, H, W, C) uint8; RGB, or one channel if all images are grey. Of clips (N, F, H, W, C): of each segment in
  turn the candidates, and then all segments of each test clip. Of another modality (N, ...), in its shape.
- `labels`: (N,) int64 indices into the attribute `classes`; in a multi-label dataset (N, classes) uint8 of 0 and 1.
- `ids`: (N,) int64, unique over the splits. They count the rows of train, val and test in this order.

The rows of a split are in a random order, drawn once, so that a chunk of consecutive rows holds samples of all classes.
The attributes of the root describe the dataset: its `name`, sorted `classes`, `task` (`single_label` or `multi_label`),
`modality` and, as `sample`, the options of that; `mean` and `std` of the training samples for each RGB channel in 0..1;
`sizes` of the splits; and `most_labels` that a sample has.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import zarr
from pydantic import ConfigDict, Strict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as pydantic_dataclass

from kd.common.errors import UserError, shown
from kd.data.modalities.base import Modality, stored_modality
from kd.data.options import Task
from kd.data.storage import RowArray, open_group, open_rows

STORE, SAMPLES = "images.zarr", "samples.csv"


@pydantic_dataclass(frozen=True, config=ConfigDict(strict=True))
class DatasetInfo:
    """What is known of a packed dataset without reading its samples; checked when a store is opened.

    Attributes:
        name: name in the config; part of the seed of its views.
        classes: sorted class names; a label is an index into them.
        samples: their modality, and how they are stored.
        mean, std: of the training samples, per RGB channel, in units of 0..1.
        sizes: samples per split.
        task: what the labels are: one class a sample, or any number.
        most_labels: of one sample.
    """

    name: str
    classes: Annotated[tuple[str, ...], Strict(strict=False)]
    samples: Modality
    mean: Annotated[tuple[float, ...], Strict(strict=False)]
    std: Annotated[tuple[float, ...], Strict(strict=False)]
    sizes: dict[str, int]
    task: Task = "single_label"
    most_labels: int = 1


def attributes_of(info: DatasetInfo) -> dict[str, Any]:
    """A dataset as its store describes it."""
    samples = {"modality": info.samples.name(), "sample": info.samples.model_dump(mode="json")}
    described: dict[str, Any] = {}
    for name, value in vars(info).items():
        described |= samples if name == "samples" else {name: value}
    return described


@dataclass(frozen=True)
class Labelled:
    """What is known of the samples of one split beside what they show.

    Attributes:
        info: of the dataset.
        name: `train`, `val` or `test`.
        labels: (N,) int64 class ids; of a multi-label dataset (N, classes) uint8 of 0 and 1.
        ids: (N,) int64, unique within the dataset over all splits.
    """

    info: DatasetInfo
    name: str
    labels: np.ndarray
    ids: np.ndarray


@dataclass(frozen=True)
class Split(Labelled):
    """One split of a packed dataset; its samples stay on disk until they are read.

    Attributes:
        images: (N, ...) uint8, of the shape that the modality says.
    """

    images: RowArray


def read_info(directory: Path) -> DatasetInfo:
    """Describe the packed dataset in a directory."""
    return _info(open_group(directory / STORE))


def read_classes(directory: Path) -> tuple[str, ...]:
    """The sorted class names of a packed dataset, whatever its modality is.

    Raises:
        UserError: it does not say them.
    """
    root = open_group(directory / STORE)
    try:
        return TypeAdapter(tuple[str, ...]).validate_python(root.attrs.asdict().get("classes"))
    except ValidationError as error:
        raise UserError(f"{root.store_path}: its attributes describe no packed dataset ({shown(error)})") from error


def _info(root: zarr.Group) -> DatasetInfo:
    attributes: dict[str, Any] = root.attrs.asdict()
    try:
        samples = stored_modality(str(attributes.get("modality"))).model_validate(attributes.get("sample"))
        required: dict[str, Any] = dict.fromkeys(DatasetInfo.__dataclass_fields__)  # also those that have defaults here
        return DatasetInfo(**(required | attributes | {"samples": samples}))
    except (ValidationError, UserError) as error:
        raise UserError(f"{root.store_path}: its attributes describe no packed dataset ({shown(error)})") from error


def open_split(directory: Path, name: str) -> Split:
    """One split of a packed dataset: labels and ids in memory, samples on disk."""
    root = open_group(directory / STORE)
    labels, ids, images = (open_rows(root, f"{name}/{key}") for key in ("labels", "ids", "images"))
    return Split(_info(root), name, labels.read(), ids.read(), images)
