"""`coco`: MS-COCO 2014 with the labels of its object instances: 80 classes; val2014 is test.

Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014. Below `root`: train2014/ and val2014/ with
the pictures, annotations/instances_train2014.json and annotations/instances_val2014.json.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from kd.data.options import Task
from kd.data.sources.base import Listing
from kd.data.sources.listed import Listed, ListOptions, read_list, settle
from kd.data.sources.listing import tree_digest
from kd.jobs.errors import UserError

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

CHANNELS = 3
TASKS: tuple[Task, ...] = ("multi_label",)

FOLDERS = {"train": "train2014", "test": "val2014"}
READ = {"images", "annotations", "categories", "id", "name", "file_name", "image_id", "category_id"}


class Options(ListOptions):
    """Where it is."""

    root: Path
    """The folder with train2014, val2014 and annotations."""
    unlabelled: Literal["error", "drop", "keep"] = "drop"
    """Pictures without an object; drop, as in L2D: 40,137 of val2014 remain."""


def fingerprint(options: Options) -> dict[str, Any]:
    """Digest of path, size and modification time of both files of instances, and of all pictures."""
    lists = [_instances(options, folder) for folder in FOLDERS.values()]
    return {"files": tree_digest(*lists, *(options.root / folder for folder in FOLDERS.values()))}


def classes(options: Options) -> list[str] | None:
    """The 80 that have instances in COCO."""
    return list(CLASSES)


def read(options: Options) -> Listing:
    """Ids are paths below the root, such as `train2014/COCO_train2014_000000000009.jpg`."""
    listed = [each for split in FOLDERS for each in _listed(options, split)]
    return settle(options.root, listed, options, CLASSES).listing()


def _instances(options: Options, folder: str) -> Path:
    return options.root / "annotations" / f"instances_{folder}.json"


def _listed(options: Options, split: str) -> Iterator[Listed]:
    folder = FOLDERS[split]
    file = _instances(options, folder)
    for name, labels in _read(file):
        yield Listed(f"{folder}/{name}", options.root / folder / name, labels, split, f"{file}, image {name}")


def _read(file: Path) -> list[tuple[str, tuple[str, ...]]]:
    """File name and labels of every image."""
    try:
        # Outlines of objects, most of the file, are dropped while it is parsed.
        document = json.loads(
            read_list(file),
            object_hook=lambda each: {key: value for key, value in each.items() if key in READ},
        )
        names = {each["id"]: each["name"] for each in document["categories"]}
        images = {each["id"]: each["file_name"] for each in document["images"]}
        instances = [(each["image_id"], each["category_id"]) for each in document["annotations"]]
    except ValueError as error:
        raise UserError(f"{file}: is not JSON ({error})") from error
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{file}: expected images (id, file_name), categories (id, name) and annotations (image_id, category_id),"
            f" as instances_*.json of COCO have them; failed at {error}"
        ) from error
    if len(images) < len(document["images"]):
        raise UserError(f"{file}: two images have the same id")
    labels: dict[Any, set[str]] = {image: set() for image in images}
    for image, category in instances:
        if image not in images or category not in names:
            what, number = ("image", image) if image not in images else ("category", category)
            raise UserError(f"{file}: an annotation is of {what} {number}, which the file does not list")
        labels[image].add(names[category])
    return [(images[image], tuple(sorted(found))) for image, found in labels.items()]
