"""`coco`: MS-COCO 2014 with the labels of its object instances: 80 classes; val2014 is test.

Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014. Below `root`: train2014/ and val2014/ with
the images, annotations/instances_train2014.json and annotations/instances_val2014.json.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from kd.common.errors import UserError
from kd.data.sources.base import Listing
from kd.data.sources.clean import ListEntry, ListOptions, clean_list, read_list, stripped
from kd.data.sources.files import tree_digest

CLASSES = (
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light"),
    *("fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow"),
    *("elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee"),
    *("skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard"),
    *("tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple"),
    *("sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch"),
    *("potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone"),
    *("microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear"),
    *("hair drier", "toothbrush"),
)

TASKS = ("multi_label",)

FOLDERS = {"train": "train2014", "test": "val2014"}
READ = {"images", "annotations", "categories", "id", "name", "file_name", "image_id", "category_id"}


class Options(ListOptions):
    """Paths of the dataset."""

    root: Path
    """The folder with train2014, val2014 and annotations."""
    unlabelled: Literal["error", "drop", "keep"] = "drop"
    """What is done about images without an object; `drop` is as in L2D: 40,137 of val2014 remain."""


def fingerprint(options: Options) -> dict[str, Any]:
    """Digest of path, size and modification time of both files of instances, and of all images."""
    lists = [_instances(options, folder) for folder in FOLDERS.values()]
    return {"files": tree_digest(*lists, *(options.root / folder for folder in FOLDERS.values()))}


def read(options: Options) -> Listing:
    """All 80 classes are listed; ids are paths below the root, such as `train2014/COCO_train2014_000000000009.jpg`."""
    listed = [each for split in FOLDERS for each in _listed(options, split)]
    return clean_list(options.root, listed, options, CLASSES).listing()


def _instances(options: Options, folder: str) -> Path:
    return options.root / "annotations" / f"instances_{folder}.json"


def _listed(options: Options, split: str) -> Iterator[ListEntry]:
    folder = FOLDERS[split]
    file = _instances(options, folder)
    for name, labels in _read(file):
        yield ListEntry(f"{folder}/{name}", options.root / folder / name, labels, split, f"{file}, image {name}")


def _read(file: Path) -> list[tuple[str, tuple[str, ...]]]:
    """File name and labels of every image."""
    try:
        document = json.loads(read_list(file), object_pairs_hook=_read_fields)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: is not JSON ({error})") from error
    names: dict[int, str] = _by_id(file, document, "categories", "name")
    images: dict[int, str] = _by_id(file, document, "images", "file_name")
    if len(set(names.values())) < len(names):
        (name, count), *_ = Counter(names.values()).most_common(1)
        ids = [number for number, other in names.items() if other == name]
        raise UserError(f"{file}: categories: {count} have the name {name!r}, ids {ids}; merge them into one")
    labels: dict[int, set[str]] = {image: set() for image in images}
    for place, record in _records(file, document, "annotations"):
        image, category = _id(place, record, "image_id"), _id(place, record, "category_id")
        for what, number, known in (("image", image, images), ("category", category, names)):
            if number not in known:
                raise UserError(f"{place}: is of {what} {number}, which the file does not list")
        labels[image].add(names[category])
    return [(images[image], tuple(sorted(found))) for image, found in labels.items()]


def _read_fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The fields of an object that are read. Outlines, most of the file, are dropped while it is parsed."""
    found = [pair for pair in pairs if pair[0] in READ]
    fields = dict(found)
    if len(fields) < len(found):
        twice = next(key for key, count in Counter(key for key, _ in found).items() if count > 1)
        raise ValueError(f"{twice!r} stands twice in one object")
    return fields


def _records(file: Path, document: Any, section: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each record of a section, with its place."""
    records = document.get(section) if isinstance(document, dict) else None
    if not isinstance(records, list):
        raise UserError(f"{file}: {section} is {_kind(records)}, expected a list, as in instances_*.json of COCO")
    for number, record in enumerate(records):
        place = f"{file}: {section}[{number}]"
        if not isinstance(record, dict):
            raise UserError(f"{place}: is {_kind(record)}, expected an object")
        yield place, record


def _by_id(file: Path, document: Any, section: str, field: str) -> dict[int, str]:
    """A field that is text, by id, which no two records share."""
    found: dict[int, str] = {}
    for place, record in _records(file, document, section):
        number, text = _id(place, record, "id"), record.get(field)
        text = stripped(text) if isinstance(text, str) else text
        if not isinstance(text, str) or not text:
            raise UserError(f"{place} (id {number}): {field} is {_kind(text)}, expected text")
        if number in found:
            raise UserError(f"{place}: id {number} is that of {found[number]!r} and of {text!r}; expected once")
        found[number] = text
    return found


def _id(place: str, record: dict[str, Any], field: str) -> int:
    number = record.get(field)
    if type(number) is not int:
        raise UserError(f"{place}: {field} is {_kind(number)}, expected an integer")
    return number


def _kind(value: Any) -> str:
    """A value as a message shows it."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    return "missing or null" if value is None else repr(value)
