"""`cub200`: CUB-200-2011: 5,994 training and 5,794 test images of 200 species of birds.

Wah et al., "The Caltech-UCSD Birds-200-2011 Dataset", 2011. The dataset's own folder is CUB_200_2011, with
images/001.Black_footed_Albatross/Black_Footed_Albatross_0001_796111.jpg and lists with a line for each image, all of
which begin with its number: images.txt (its path below images/), image_class_labels.txt (the number of its class) and
train_test_split.txt (1: train, 0: test); classes.txt has the folder of each class.

With `protocol: mlfd` no list is read, and of all 11,788 images 9,430 are train and 2,358 test.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kd.common.errors import UserError
from kd.data.sources.base import Archive, Listing
from kd.data.sources.clean import ListEntry, read_lines
from kd.data.sources.files import IMAGES, files_digest, find_sound, readable, tree_digest
from kd.data.sources.official import (
    ListedOptions,
    class_entries,
    counted,
    dataset_folder,
    drawn,
    listed_images,
    listing_of,
)

ARCHIVES = (
    Archive(
        "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
        "sha256:0c685df5597a8b24909f6a7c9db6d11e008733779a671760afef78feb49bf081",
        1_150_585_339,
    ),
)

CLASS = re.compile(r"(\d{3})\.([^/]+)")
OFFICIAL = {
    "official": {"classes": 200, "train": 5994, "test": 5794},
    "mlfd": {"classes": 200, "images": 11_788},
}
SPLITS = {"1": "train", "0": "test"}

Table = dict[str, tuple[str, str]]
"""Second field of each line of a list, and its place, by the number that the line begins with."""


class Options(ListedOptions):
    """Where the dataset lies, how it is split, and what is done about faults of images.txt."""


def fingerprint(options: Options) -> dict[str, Any]:
    """Digest of path, size and modification time of every image, and of the lists where these are read."""
    folder = _folder(options)
    if options.protocol == "mlfd":
        return {"listing": files_digest(find_sound(folder / "images", IMAGES).files.items())}
    lists = folder / "images.txt", folder / "train_test_split.txt", *_of_classes(folder)
    return {"files": tree_digest(*lists, folder / "images")}


def read(options: Options) -> Listing:
    """Classes are called as in `Black footed Albatross`; ids are paths below images/."""
    folder = _folder(options)
    images = folder / "images"
    if options.protocol == "official":
        listing = listed_images(images, list(_listed(folder)), options).listing()
    else:
        entries, notes = class_entries(images, lambda name: _name(name, f"source.root: {readable(images)}"))
        listing = listing_of(images, drawn(entries), notes)
    return counted(listing, OFFICIAL[options.protocol])


def _folder(options: Options) -> Path:
    return dataset_folder(options.root, "images/[0-9]*", ("CUB_200_2011", "."))


def _of_classes(folder: Path) -> list[Path]:
    """The lists of classes. Folders of classes say the same: where these are there, too, they must agree."""
    files = [folder / "image_class_labels.txt", folder / "classes.txt"]
    return files if all(file.exists() for file in files) else []


def _name(folder: str, place: str) -> str:
    """`Black footed Albatross` of `001.Black_footed_Albatross`."""
    found = CLASS.fullmatch(folder)
    if found is None:
        raise UserError(
            f"{place}: folder {folder!r} is not that of a class, expected one such as 001.Black_footed_Albatross"
        )
    return found[2].replace("_", " ")


def _listed(folder: Path) -> Iterator[ListEntry]:
    file = folder / "train_test_split.txt"
    splits, classes = _table(file), [_table(each) for each in _of_classes(folder)]
    for number, (path, place) in _table(folder / "images.txt").items():
        parent, _, name = path.partition("/")
        label = _name(parent, place)
        if not name or "/" in name:
            raise UserError(f"{place}: path is {path!r}, expected FOLDER/NAME.jpg")
        if classes:
            _check_class(number, parent, classes, place)
        split, where = splits.get(number, ("nothing", file))
        if split not in SPLITS:
            raise UserError(f"{where}: has {split} for image {number}, expected 1 (train) or 0 (test)")
        yield ListEntry(path, folder / "images" / path, (label,), SPLITS[split], place)


def _check_class(number: str, parent: str, tables: list[Table], place: str) -> None:
    """Compare the folder of an image with the lists of classes."""
    labels, classes = tables
    label, where = labels.get(number, ("", place))
    listed, _ = classes.get(label, ("no class that classes.txt has", ""))
    if listed != parent:
        raise UserError(
            f"{where}: image {number} is of class {label or 'no number'} ({listed}), but lies in {parent} (images.txt)"
        )


def _table(file: Path) -> Table:
    """Read a list.

    Raises:
        UserError: it cannot be read, a line does not have two fields, or a number stands twice.
    """
    found: Table = {}
    for number, line in read_lines(file):
        fields, place = line.split(), f"{file}, line {number}"
        if len(fields) != 2 or not fields[0].isdecimal():
            raise UserError(f"{place}: is {line!r}, expected a number and one field after it")
        if fields[0] in found:
            raise UserError(f"{place}: number {fields[0]} stands twice, first in {found[fields[0]][1]}")
        found[fields[0]] = (fields[1], place)
    return found
