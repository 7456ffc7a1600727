"""`oxford_pets`: Oxford-IIIT Pets: 3,680 training and 3,669 test images of 37 breeds of cats and dogs.

Parkhi et al., "Cats and Dogs", CVPR 2012. The dataset's own folder has images/Abyssinian_1.jpg, whose name says the
breed; and annotations/trainval.txt and test.txt with lines such as `Abyssinian_100 1 1 1`: name, number of the breed,
species, number of the breed within the species. Some of the files are GIF or PNG, which their names do not say.

41 images are in neither list. With `protocol: mlfd` no list is read, and of all 7,390 images 5,912 are train and 1,478
test. MLFD has 5,906 and 1,477, of 7,383: what its version of OpenCV could not read is left out there, the six GIF files
and one more that is not known. Here all of these are read.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from kd.common.errors import UserError
from kd.data.sources.base import Archive, Listing, noted
from kd.data.sources.clean import ListEntry, read_lines
from kd.data.sources.files import IMAGES, files_digest, find_sound, readable, tree_digest
from kd.data.sources.official import ListedOptions, counted, dataset_folder, drawn, listed_images, listing_of

HOST = "https://www.robots.ox.ac.uk/~vgg/data/pets/data"
ARCHIVES = (
    Archive(
        f"{HOST}/images.tar.gz",
        "sha256:67195c5e1c01f1ab5f9b6a5d22b8c27a580d896ece458917e61d459337fa318d",
        791_918_971,
    ),
    Archive(
        f"{HOST}/annotations.tar.gz",
        "sha256:52425fb6de5c424942b7626b428656fcbd798db970a937df61750c0f1d358e91",
        19_173_078,
    ),
)

NAME = re.compile(r"([^/\s]+)_\d+")
LISTS = {"trainval.txt": "train", "test.txt": "test"}
FIELDS = 4
DEEPER = "images in further folders left out"
OFFICIAL = {
    "official": {"classes": 37, "train": 3680, "test": 3669},
    "mlfd": {"classes": 37, "images": 7390},
}


class Options(ListedOptions):
    """Where the dataset lies, how it is split, and what is done about faults of the lists."""

    duplicates: Literal["error", "merge"] = "merge"
    """What is done about images that are listed twice, which says nothing new, as their names say the breed; in both
    lists, it is always an error."""


def fingerprint(options: Options) -> dict[str, Any]:
    """Digest of path, size and modification time of every image, and of the lists where these are read."""
    folder = _folder(options)
    if options.protocol == "mlfd":
        return {"listing": files_digest(find_sound(folder / "images", IMAGES).files.items())}
    return {"files": tree_digest(*_lists(folder), folder / "images")}


def read(options: Options) -> Listing:
    """Classes are called as in names of files: `Abyssinian`, `american_bulldog`; ids are such names."""
    folder = _folder(options)
    if options.protocol == "official":
        lists = _lists(folder)
        listed = [each for file in lists for each in _listed(folder, file)]
        listing = listed_images(folder / "images", listed, options).listing()
        absent = LISTS.keys() - {file.name for file in lists}
        listing = replace(listing, notes=listing.notes | {f"lists that are not there ({name})": 1 for name in absent})
    else:
        entries, notes = _all(folder / "images")
        listing = listing_of(folder / "images", drawn(entries), notes)
    return counted(listing, OFFICIAL[options.protocol])


def _folder(options: Options) -> Path:
    return dataset_folder(options.root, "images/*.jpg", ("oxford-iiit-pet", "."))


def _lists(folder: Path) -> list[Path]:
    """Those that are there; without test.txt, test is drawn from train."""
    files = [folder / "annotations" / name for name in LISTS]
    return [file for file in files if file.exists()] or files


def _breed(name: str, place: str) -> str:
    found = NAME.fullmatch(name)
    if found is None:
        raise UserError(f"{place}: image is called {name!r}, expected a breed and a number, such as Abyssinian_1")
    return found[1]


def _listed(folder: Path, file: Path) -> Iterator[ListEntry]:
    breeds: dict[str, str] = {}
    for number, line in read_lines(file):
        fields, place = line.split(), f"{file}, line {number}"
        if line.startswith("#"):
            continue
        if len(fields) != FIELDS:
            raise UserError(f"{place}: has {len(fields)} fields, expected {FIELDS}, such as Abyssinian_100 1 1 1")
        breed = _breed(fields[0], place)
        other = breeds.setdefault(fields[1], breed)
        if other != breed:
            raise UserError(f"{place}: breed {fields[1]} is {breed} by the name of the image, but {other} further up")
        name = f"{fields[0]}.jpg"
        yield ListEntry(name, folder / "images" / name, (breed,), LISTS[file.name], place)


def _all(folder: Path) -> tuple[list[ListEntry], Counter[str]]:
    """All images, whether listed or not, and what was left out."""
    found, entries = find_sound(folder, IMAGES), []
    for name in found.files:
        if "/" in name:
            found.notes[DEEPER] += 1
        else:
            shown, place = readable(name), readable(folder / name)
            entries.append(ListEntry(shown, folder / name, (_breed(Path(shown).stem, place),), None, place))
    if not entries:
        raise UserError(f"source.root: {readable(folder)} holds no images{noted(found.notes)}")
    return entries, found.notes
