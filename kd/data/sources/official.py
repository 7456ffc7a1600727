"""What official datasets of images share: their options, where their files lie, how they are split and counted."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from kd.common.errors import UserError
from kd.common.options import BaseOptions
from kd.data.sources.base import Listing, noted
from kd.data.sources.clean import CleanList, FaultOptions, ListEntry, ListOptions, clean_list
from kd.data.sources.files import IMAGES, OUTSIDE, Kind, find_kind, find_sound, readable

Protocol = Literal["official", "mlfd"]

SEED = 42  # of the draw; MLFD's, too
UNLISTED = "images that no list names left out"


class OfficialOptions(BaseOptions):
    """Where the dataset lies, and how it is split."""

    root: Path | None = None
    """The dataset's own folder, or the folder that its archives were unpacked in; `null`: `snakemake prefetch`
    downloads it."""
    protocol: Protocol = "official"
    """`official`: the split that the dataset has, if it has one; `mlfd`: as in the experiments of MLFD's paper."""


class ListedOptions(FaultOptions, OfficialOptions):
    """The same, of a dataset with lists of its images. Faults that are no error are counted and logged."""


def dataset_folder(root: Path | None, holds: str, places: Sequence[str]) -> Path:
    """The dataset's own folder.

    Args:
        root: that folder, or one that it lies in.
        holds: something in the dataset's own folder, as a glob pattern; the folder is known by it.
        places: where that folder may be, relative to the root, the likeliest first.

    Raises:
        UserError: there is no root, or the dataset is in none of the places.
    """
    if root is None:
        raise UserError(
            "source.root: null, and no downloaded dataset; run `snakemake prefetch`, or say the folder that holds it"
        )
    if not root.is_dir():
        raise UserError(f"source.root: {readable(root)} is not a folder; expected the one that holds the dataset")
    for place in places:
        if next((root / place).glob(holds), None) is not None:
            return root / place
    looked = " or ".join(str(Path(place) / holds) for place in places)
    raise UserError(
        f"source.root: {readable(root)} holds no {looked}; expected the dataset's own folder, or the one that its"
        " archives were unpacked in"
    )


def class_entries(folder: Path, label_of: Callable[[str], str | None]) -> tuple[list[ListEntry], Counter[str]]:
    """Images below class folders, and what was left out.

    Args:
        folder: with a folder for each class.
        label_of: the class that the name of such a folder means; None: its images are left out, and counted.

    Returns:
        Entries in the order of their names, which are paths relative to the folder; and notes.

    Raises:
        UserError: the folder cannot be read, a link in it leads nowhere, or no image is left.
    """
    found = find_sound(folder, IMAGES)
    entries = []
    labels = {name: label_of(readable(name)) for name in {name.split("/")[0] for name in found.files if "/" in name}}
    for name in found.files:
        top = name.split("/")[0]
        label = labels.get(top)
        if label is not None:
            entries.append(ListEntry(readable(name), folder / name, (label,), None, readable(folder / name)))
        else:
            found.notes[f"images of {readable(top)} left out" if top in labels else OUTSIDE] += 1
    if not entries:
        raise UserError(f"source.root: {readable(folder)} holds no images in folders of classes{noted(found.notes)}")
    return entries, found.notes


def listed_images(folder: Path, listed: Sequence[ListEntry], options: ListedOptions) -> CleanList:
    """The images of a list that are there; what the folder holds beside them is left out and counted.

    Raises:
        UserError: a fault of the list that is to be an error, or no image is left.
    """
    clean = clean_list(folder, listed, ListOptions(missing=options.missing, duplicates=options.duplicates), None)
    found = find_kind(folder, IMAGES)
    named = {each.path for each in listed}
    found.notes[UNLISTED] = sum(folder / name not in named for name in found.files)
    return replace(clean, notes=clean.notes | {what: count for what, count in found.notes.items() if count})


def drawn(entries: Sequence[ListEntry], *, up: bool = True) -> list[ListEntry]:
    """The same images with a stratified split of 80/20, of the sizes that MLFD's have.

    A class gives test its share, rounded up or down. Which of its images are in test depends on their ids alone, not on
    the order of files on disk. MLFD draws from files in the order that the authors' disk had them in: so its splits
    have the same sizes and other members.

    Args:
        entries: of n images.
        up: `ceil(n / 5)` of them are test, as of scikit-learn's `train_test_split`; else `floor(n / 5)`, as of the last
            fold of its `StratifiedKFold`.
    """
    count = -(-len(entries) // 5) if up else len(entries) // 5
    classes = defaultdict(list)
    for each in entries:
        classes[each.labels].append((hashlib.sha256(f"{SEED}/{each.id}".encode()).digest(), each.id))
    ranked = [
        ((place + 0.5) / len(members), *member)
        for members in classes.values()
        for place, member in enumerate(sorted(members))
    ]
    test = {name for *_, name in sorted(ranked)[:count]}
    return [replace(each, split="test" if each.id in test else "train") for each in entries]


def counted(listing: Listing, official: Mapping[str, int], kind: Kind = IMAGES) -> Listing:
    """The same, with notes of counts that are not the official ones: a part of a dataset is no error, but said.

    Args:
        listing: single-label.
        official: of `classes`, and of `images` or of each split.
        kind: of the files that are counted.
    """
    found = Counter(sample.split for sample in listing.samples)
    counts = {"classes": len({sample.labels for sample in listing.samples}), "images": len(listing.samples)}
    notes = dict(listing.notes)
    for what, expected in official.items():
        count = counts.get(what, found[what])
        if count != expected:
            name = what if what in counts else f"{kind.name}s of {what}"
            notes[f"{name} {'fewer' if count < expected else 'more'} than the official {expected:,}"] = abs(
                count - expected
            )
    return replace(listing, notes=notes)


def listing_of(folder: Path, entries: Iterable[ListEntry], notes: Mapping[str, int]) -> Listing:
    """A sample for each entry."""
    return CleanList(folder, list(entries), None, dict(notes)).listing()
