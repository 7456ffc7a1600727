"""`voc`: PASCAL VOC 2007 as its devkit lays it out: 9,963 pictures, 20 classes.

Everingham et al., "The PASCAL Visual Object Classes (VOC) Challenge", IJCV 2010. Below `root`:
JPEGImages/000005.jpg, Annotations/000005.xml, ImageSets/Main/{trainval,test,train,val}.txt.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree as ET

from kd.data.options import Task
from kd.data.sources.base import Listing
from kd.data.sources.listed import Listed, ListOptions, read_lines, settle
from kd.data.sources.listing import tree_digest
from kd.jobs.errors import UserError

CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog"),
    *("horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)

CHANNELS = 3
TASKS: tuple[Task, ...] = ("multi_label",)


class Options(ListOptions):
    """Where it is, and what counts."""

    root: Path
    """The folder VOC2007, with JPEGImages, Annotations and ImageSets."""
    difficult: Literal["positive", "ignore"] = "positive"
    """Objects that are marked as difficult: labels like others, as in L2D, or none."""
    official_val: bool = False
    """Train and val as the devkit divides them; false: its trainval is train, and val is drawn from it."""


def fingerprint(options: Options) -> dict[str, Any]:
    """Digest of path, size and modification time of all lists, annotations and pictures."""
    return {"files": tree_digest(*(options.root / name for name in ("ImageSets/Main", "Annotations", "JPEGImages")))}


def classes(options: Options) -> list[str] | None:
    """The 20 of the challenge."""
    return list(CLASSES)


def read(options: Options) -> Listing:
    """Ids are the numbers of the pictures, such as `000005`."""
    return settle(options.root, _listed(options), options, CLASSES).listing()


def _listed(options: Options) -> Iterator[Listed]:
    lists = {"train": "trainval", "test": "test"}
    if options.official_val:
        lists = {"train": "train", "val": "val", "test": "test"}
    for split, name in lists.items():
        file = options.root / "ImageSets" / "Main" / f"{name}.txt"
        for number, line in read_lines(file):
            picture = options.root / "JPEGImages" / f"{line}.jpg"
            annotation = options.root / "Annotations" / f"{line}.xml"
            place = f"{file}, line {number}"
            yield Listed(line, picture, _labels(annotation, options, place), split, place)


def _labels(annotation: Path, options: Options, place: str) -> tuple[str, ...]:
    """Names of the objects in a picture."""
    try:
        objects = ET.parse(annotation).getroot().findall("object")
    except FileNotFoundError as error:
        raise UserError(f"{place}: {annotation}: no such file") from error
    except ET.ParseError as error:
        raise UserError(f"{annotation}: is not XML ({error})") from error
    counted = [each for each in objects if options.difficult == "positive" or each.findtext("difficult") != "1"]
    names = tuple(each.findtext("name", "").strip() for each in counted)
    if not all(names):
        raise UserError(f"{annotation}: has an object without a name")
    return names
