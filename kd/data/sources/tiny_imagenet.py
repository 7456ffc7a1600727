r"""`tiny_imagenet`: Tiny ImageNet: 100,000 training images and 10,000 of val, which is test here, of 200 classes.

Le and Yang, "Tiny ImageNet Visual Recognition Challenge", 2015. The dataset's own folder is tiny-imagenet-200, with
wnids.txt, train/n01443537/images/n01443537_0.JPEG, val/images/val_0.JPEG and val/val_annotations.txt with lines such as
`val_0.JPEG\tn03444034\t0\t32\t44\t62`. The labels of its own test are not public, so that is not read. Classes are
called by these numbers of WordNet.

With `protocol: mlfd` it is the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from kd.common.errors import UserError
from kd.data.sources.base import Archive, Listing
from kd.data.sources.clean import ListEntry, read_lines
from kd.data.sources.files import readable, tree_digest
from kd.data.sources.official import (
    ListedOptions,
    class_entries,
    counted,
    dataset_folder,
    listed_images,
    listing_of,
)

ARCHIVES = (
    Archive("http://cs231n.stanford.edu/tiny-imagenet-200.zip", "md5:90528d7ca1a48142e341f4ef8d21d0de", 248_100_043),
)

OFFICIAL = {"classes": 200, "train": 100_000, "test": 10_000}
FIELDS = 6  # file name, class, and the corners of a box


class Options(ListedOptions):
    """Where the dataset lies, and what is done about faults of val_annotations.txt."""


def fingerprint(options: Options) -> dict[str, Any]:
    """Digest of path, size and modification time of the lists, and of all files of train and val."""
    folder = _folder(options)
    return {"files": tree_digest(folder / "wnids.txt", folder / "train", folder / "val")}


def read(options: Options) -> Listing:
    """Ids are paths such as `train/n01443537/images/n01443537_0.JPEG` and `val/images/val_0.JPEG`."""
    folder = _folder(options)
    wnids = {line for _, line in read_lines(folder / "wnids.txt")}

    def label_of(name: str) -> str:
        if name not in wnids:
            raise UserError(f"{readable(folder)}/train/{name}: is a folder of a class that wnids.txt does not list")
        return name

    train, notes = class_entries(folder / "train", label_of)
    train = [replace(each, id=f"train/{each.id}", split="train") for each in train]
    test = listed_images(folder / "val", list(_annotated(folder, wnids)), options)
    notes.update(test.notes)
    return counted(listing_of(folder, [*train, *test.images], notes), OFFICIAL)


def _annotated(folder: Path, wnids: set[str]) -> Iterator[ListEntry]:
    """Images of val."""
    file = folder / "val" / "val_annotations.txt"
    for number, line in read_lines(file):
        fields, place = line.split("\t"), f"{file}, line {number}"
        if len(fields) != FIELDS:
            raise UserError(f"{place}: has {len(fields)} fields between tabs, expected {FIELDS}")
        name, wnid = fields[:2]
        if wnid not in wnids:
            raise UserError(f"{place}: class is {wnid!r}, which wnids.txt does not list")
        yield ListEntry(f"val/images/{name}", folder / "val" / "images" / name, (wnid,), "test", place)


def _folder(options: Options) -> Path:
    return dataset_folder(options.root, "val/val_annotations.txt", ("tiny-imagenet-200", "."))
