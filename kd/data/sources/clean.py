"""Sources that are lists of files with labels: what is wrong with a list, and what is done about it."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from kd.common.errors import UserError
from kd.common.options import BaseOptions
from kd.data.sources.base import Listing, Sample
from kd.data.sources.files import IMAGES, Kind, files_fingerprint

SHOWN = 5

ZERO_WIDTH = "\u00ad\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff"
_SURROUNDING = re.compile(rf"\A[\s{ZERO_WIDTH}]+|[\s{ZERO_WIDTH}]+\Z")


class FaultOptions(BaseOptions):
    """Options for faults of any list. Faults that are no error are counted and logged."""

    missing: Literal["error", "skip"] = "error"
    """What is done about files that are listed but not there. That all are missing is always an error."""
    duplicates: Literal["error", "merge"] = "error"
    """What is done about a file, or a part of one, that is listed twice; `merge`: it counts once, with the labels of
    both. In two splits, it is always an error."""


class ListOptions(FaultOptions):
    """Options for lists whose entries may have unknown labels, or none."""

    unlabelled: Literal["error", "drop", "keep"] = "error"
    """What is done about files without a label; `keep`: they show none of the classes."""
    unknown_labels: Literal["error", "ignore"] = "error"
    """What is done about labels that the class list does not have."""


@dataclass(frozen=True)
class ListEntry:
    """An image, or a file of another kind, as a list names it.

    Attributes:
        id: names it within its source.
        path: its file.
        labels: class names, in any order.
        split: where the list says so.
        place: in the list, for error messages.
        group: as of `kd.data.sources.base.Sample`.
        part: which part of the file it is, as the function that opens files of the kind takes it; empty: all of it.
        note: what is to be said of it, in words.
    """

    id: str
    path: Path
    labels: tuple[str, ...]
    split: str | None
    place: str
    group: str | None = None
    part: tuple[float, ...] = ()
    note: str = ""

    def identity(self) -> tuple[object, ...]:
        """What no two entries share, however their paths are written."""
        return os.path.abspath(self.path), self.part  # noqa: PTH100 (pathlib keeps `..`)


@dataclass(frozen=True)
class CleanList:
    """A checked list: each image once, its labels sorted and known, its file present.

    Attributes:
        root: folder that most files are below.
        images: in the order of the list.
        classes: the class list; None: there is none.
        notes: what was done about its faults, in words, and how often; empty: it has none.
        kind: of its files.
    """

    root: Path
    images: list[ListEntry]
    classes: list[str] | None
    notes: dict[str, int]
    kind: Kind = IMAGES

    def fingerprint(self) -> dict[str, Any]:
        """Digests of all labels, and of path, size and modification time of every image."""
        digest = hashlib.sha256(repr(self.classes).encode())
        for each in sorted(self.images, key=lambda each: each.id):
            digest.update(repr((each.id, each.labels, each.split, each.group, each.part)).encode())
        paths = [each.path for each in self.images]
        return {"labels": digest.hexdigest(), "listing": files_fingerprint(self.root, paths)}

    def listing(self) -> Listing:
        """A sample for each image, what was done about faults, and the class list."""
        samples = [
            Sample(each.id, each.labels, partial(self.kind.open, each.path, *each.part), each.split, each.group)
            for each in self.images
        ]
        return Listing(samples, self.notes, self.classes)


def stripped(text: str) -> str:
    """Without the white space around it, of any kind, nor characters of no width such as a byte order mark."""
    return text.strip() if text.isascii() else _SURROUNDING.sub("", text)


def read_list(file: Path, option: str = "source.root") -> str:
    """A text file, named by an option of a source, without a byte order mark; line breaks are as in the file.

    Raises:
        UserError: it cannot be read, or it is not text.
    """
    try:
        data = file.read_bytes()
        if b"\0" in data:
            raise UserError(f"{file}: holds NUL bytes, so it is text in UTF-16, or no text; save it as UTF-8")
        return data.decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{option}: {file}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(f"{file}, line {line}: is not text in UTF-8 ({error}); save it as UTF-8") from error


def read_lines(file: Path) -> list[tuple[int, str]]:
    """Lines of such a file, stripped, with their numbers from 1; empty ones at its end do not count.

    Raises:
        UserError: it cannot be read, or another line is empty.
    """
    lines = [stripped(line) for line in re.split(r"\r\n|\r|\n", read_list(file))]
    while len(lines) > 1 and not lines[-1]:
        del lines[-1]
    if "" in lines:
        raise UserError(f"{file}, line {lines.index('') + 1}: is empty")
    return list(enumerate(lines, start=1))


def some(names: Sequence[str]) -> str:
    """A list of names in words, cut short where it is long."""
    return f"{list(names)}" if len(names) <= SHOWN else f"{list(names[:SHOWN])} …"


def clean_list(
    root: Path, listed: Iterable[ListEntry], options: ListOptions, classes: Collection[str] | None, kind: Kind = IMAGES
) -> CleanList:
    """Find the faults of a list of at least one file, and do about each what the options say; classes None: any.

    Raises:
        UserError: a fault that is to be an error, or nothing is left. It names the line of the list and the option.
    """
    counts: Counter[str] = Counter()
    allowed = None if classes is None else frozenset(classes)
    entries = list(listed)
    _check_groups(entries)
    known = (_known(each, options, allowed, counts) for each in entries)
    labelled = [each for each in _merged(known, options, counts) if _is_wanted(each, options, counts, kind)]
    images = _present(labelled, options, counts, kind)
    if not images:
        said = ", ".join(f"{what}: {count}" for what, count in counts.items()) or "it has none to read"
        raise UserError(f"{root}: no {kind.name} is left of the list: {said}")
    return CleanList(root, images, None if classes is None else sorted(classes), dict(counts), kind)


def _known(each: ListEntry, options: ListOptions, classes: frozenset[str] | None, counts: Counter[str]) -> ListEntry:
    """With its labels sorted, and without unknown ones."""
    labels = set(each.labels)
    unknown = set() if classes is None else labels.difference(classes)
    if unknown and options.unknown_labels == "error":
        raise UserError(
            f"{each.place}: label {min(unknown)!r} is not one of the {len(classes or ())} classes"
            f" {some(sorted(classes or ()))}; correct it, or say source.unknown_labels: ignore"
        )
    if unknown:
        counts["unknown labels ignored"] += len(unknown)
    return replace(each, labels=tuple(sorted(labels - unknown)))


def _merged(listed: Iterable[ListEntry], options: ListOptions, counts: Counter[str]) -> list[ListEntry]:
    """Each file once, however its path is written; ids are those that stand first."""
    found: dict[object, ListEntry] = {}
    for each in listed:
        first = found.setdefault(each.identity(), each)
        if first is each:
            continue
        other = first.place if first.id == each.id else f"{first.place} as {first.id}"
        if options.duplicates == "error":
            raise UserError(
                f"{each.place}: {each.id} is listed twice, first in {other}; remove one, or say"
                " source.duplicates: merge"
            )
        if first.split != each.split:
            raise UserError(f"{each.place}: {each.id} is listed for {each.split}, and for {first.split} in {other}")
        counts["duplicates merged"] += 1
        found[each.identity()] = replace(first, labels=tuple(sorted({*first.labels, *each.labels})))
    return list(found.values())


def _check_groups(entries: list[ListEntry]) -> None:
    """All that is in one file, whatever links lead to it, is of one group, so that no draw cuts the file apart."""
    if all(each.group is None for each in entries):  # to resolve links takes a while
        return
    files: dict[str, ListEntry] = {}
    for each in entries:
        first = files.setdefault(os.path.realpath(each.path), each)
        if each.group != first.group:
            raise UserError(
                f"{each.place}: the group of {each.id} is {each.group!r}, and that of the same file {first.group!r} in"
                f" {first.place}; expected one group for all that is in a file"
            )


def _is_wanted(each: ListEntry, options: ListOptions, counts: Counter[str], kind: Kind) -> bool:
    """Whether it has labels, or is wanted without."""
    if each.labels:
        return True
    if options.unlabelled == "error":
        raise UserError(
            f"{each.place}: {each.id} has no label; give it one, or say source.unlabelled: drop (or keep, in"
            " multi_label datasets)"
        )
    counts[f"{kind.name}s without a label " + ("kept" if options.unlabelled == "keep" else "dropped")] += 1
    return options.unlabelled == "keep"


def _present(listed: list[ListEntry], options: ListOptions, counts: Counter[str], kind: Kind) -> list[ListEntry]:
    """Entries whose file exists."""
    missing = [each for each in listed if not _is_file(each.path)]
    if missing and options.missing == "error":
        raise UserError(
            f"{missing[0].place}: {missing[0].path}: no such {kind.name} file ({len(missing)} of {len(listed)} are"
            " missing); get them, or say source.missing: skip"
        )
    if missing:
        counts[f"missing {kind.name}s skipped"] = len({each.path for each in missing})
    lost = {each.id for each in missing}
    return [each for each in listed if each.id not in lost]


def _is_file(path: Path) -> bool:
    """Whether a file is there; broken links and links to folders do not count."""
    try:
        return path.is_file()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
