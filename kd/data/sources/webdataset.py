"""`webdataset`: shards of plain tar files in which members of one name, up to the first dot, are one sample.

The convention is that of the WebDataset library: `0001.jpg` and `0001.cls` are image and class of the sample `0001`;
endings may be in any case. Shards are read in place. A class that is a number is a place in `classes`, counted from 0,
unless names there are numbers themselves; without `classes` the number is the name. With `multi_label`, a label is
names or numbers joined by `|`, or a list in JSON.
"""

from __future__ import annotations

import glob
import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import MinLen
from pydantic import model_validator

from kd.common.errors import UserError, shown
from kd.common.options import BaseOptions, expected
from kd.data.options import Task
from kd.data.sources.base import SEPARATOR, Listing, Sample, SplitName, check_keep, noted
from kd.data.sources.clean import read_list, some, stripped
from kd.data.sources.files import IMAGE_SUFFIXES, SPECIAL, files_digest, readable
from kd.data.sources.members import Member, format_of, member_error, members_of, open_member

TASKS = ("single_label", "multi_label")

LINKS = "links in shards left out"
NAMELESS = "members without a key left out"
NO_IMAGE = "samples without an image skipped"
NUMBER = re.compile(r"[+-]?[0-9]+")
# Without a class list, what looks like several classes is not taken for the name of one.
SEVERAL: dict[Task, re.Pattern[str]] = {
    "single_label": re.compile(r".*[|;\n].*|[0-9]+([\s,]+[0-9]+)+", re.DOTALL),
    "multi_label": re.compile(r".*[;,\n].*|[0-9]+(\s+[0-9]+)+", re.DOTALL),
}
RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
# The key is the path up to the first dot of the last part, which does not begin with it; the ending is all behind.
KEY = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]*)")
META = re.compile(r"__[^/]*__($|/)")

Text = Annotated[str, MinLen(1)]
Shards = Annotated[
    Text | dict[SplitName, Text], expected("a path such as DIR/train-{000..012}.tar, or one for each split")
]
ClassNames = Annotated[
    Path | Annotated[list[Text], MinLen(1)], expected("a file with a class in each line, or a list of classes")
]


class Options(BaseOptions):
    """Where the shards are, and which of their members are image and label."""

    shards: Shards
    """Path of the shards, with a range of numbers such as `{000..012}`, or with `*` and `?`; or a mapping with such a
    path for each of `train`, `val` and `test`. Without splits, the `split` section decides."""
    image: Annotated[list[Text], MinLen(1)] | None = None
    """Endings of members that are images, such as `[jpg, png]`; `null`: those that images usually have."""
    label: Text = "cls"
    """Ending of the member that holds the class: a number or a name, or with `label_field` JSON."""
    label_field: Text | None = None
    """The field that is the class, in a member with JSON; `null`: the whole text is the class."""
    classes: ClassNames | None = None
    """The class list, or a file with a class in each line; `null`: the classes that occur."""
    missing: Literal["error", "skip"] = "error"
    """What is done about samples without an image."""
    unlabelled: Literal["error", "drop", "keep"] = "error"
    """What is done about samples without a class; `keep`: they are images that show none of the classes."""
    task: Task = "single_label"
    """The task of the dataset. Filled in by the program."""

    @model_validator(mode="after")
    def _consistent(self) -> Options:
        check_keep(self.unlabelled, self.task)
        if isinstance(self.shards, dict) and "train" not in self.shards:
            raise ValueError("shards: has no train")
        if self.label.lower().endswith("json") and self.label_field is None:
            raise ValueError(f"label: {self.label} needs label_field, which says where in the JSON the class stands")
        return self


@dataclass(frozen=True)
class Classes:
    """A class list.

    Attributes:
        names: in the order that numbers count in.
        known: the same, to look names up.
        numbered: some names are numbers; then no number is a place.
    """

    names: list[str]
    known: frozenset[str]
    numbered: bool


@dataclass(frozen=True)
class Shard:
    """A tar file, with its name in ids and the split that the options give it."""

    path: Path
    name: str
    split: str | None


def fingerprint(options: Options) -> dict[str, Any]:
    """Digest of path, size and modification time of every shard, and the classes if a file lists them."""
    shards = files_digest((shard.name, shard.path.stat()) for shard in _shards(options))
    return {"shards": shards} | ({"classes": _names_of(options)} if isinstance(options.classes, Path) else {})


def read(options: Options) -> Listing:
    """One sample a key; ids are shard and key, such as `train-000.tar/0001`."""
    classes = _classes(options)
    notes: Counter[str] = Counter()
    samples = [each for shard in _shards(options) for each in _samples(options, shard, classes, notes)]
    if not samples:
        raise UserError(f"source.shards: hold no sample{noted(notes)}")
    return Listing(samples, dict(+notes), None if classes is None else sorted(classes.names))


def _shards(options: Options) -> list[Shard]:
    """All shards; their names are paths below the folder that holds all of them."""
    given: dict[Any, str] = options.shards if isinstance(options.shards, dict) else {None: options.shards}
    found: dict[Path, str | None] = {}
    for split, pattern in given.items():
        for path in _paths(pattern, "source.shards" + (f".{split}" if split else "")):
            if path in found:
                raise UserError(f"source.shards: {readable(path)} is named twice; expected once")
            form = format_of(path, "source.shards")
            if form != "tar":
                raise UserError(f"source.shards: {readable(path)} is a {form} file; expected a plain tar file")
            found[path] = split
    folder = os.path.commonpath([path.parent for path in found])
    return [Shard(path, readable(os.path.relpath(path, folder)), split) for path, split in found.items()]


def _paths(pattern: str, option: str) -> Iterator[Path]:
    """The files that a path with a range or with wildcards means."""
    ranges = RANGE.findall(pattern)
    if "{" in RANGE.sub("", pattern) or len(ranges) > 1:
        raise UserError(f"{option}: {shown(pattern)}: expected at most one range of numbers, such as {{000..012}}")
    for first, last in ranges:
        if int(first) > int(last):
            raise UserError(f"{option}: {shown(pattern)}: the range ends before it begins")
        for number in range(int(first), int(last) + 1):
            yield Path(RANGE.sub(f"{number:0{len(first)}d}", pattern))
    if not ranges:
        literal = Path(pattern).exists() or not glob.has_magic(pattern)
        found = [pattern] if literal else sorted(glob.glob(pattern))  # noqa: PTH207
        if not found:
            raise UserError(f"{option}: no file is called {shown(pattern)}")
        yield from map(Path, found)


def _classes(options: Options) -> Classes | None:
    """The class list; None: classes are those that occur."""
    names = _names_of(options)
    if names is None:
        return None
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UserError(f"source.classes: {shown(twice[0])!r} stands twice; expected each class once")
    return Classes(names, frozenset(names), numbered=any(map(NUMBER.fullmatch, names)))


def _names_of(options: Options) -> list[str] | None:
    """The names that the option or its file lists."""
    if not isinstance(options.classes, Path):
        return options.classes
    lines = read_list(options.classes, "source.classes").rstrip().splitlines() or [""]
    names = [stripped(line) for line in lines]
    if "" in names:
        line = names.index("") + 1
        raise UserError(f"source.classes: {readable(options.classes)}, line {line}: is empty; expected a class")
    return names


def _samples(options: Options, shard: Shard, classes: Classes | None, notes: Counter[str]) -> Iterator[Sample]:
    """The samples of a shard, in the order of its members."""
    for key, members in _grouped(options, shard, notes).items():
        image, labels = _image(options, shard, key, members), _labels(options, shard, key, members, classes)
        if image is None:
            notes[NO_IMAGE] += 1
            continue
        if not labels:
            notes[f"samples without a label {'kept' if options.unlabelled == 'keep' else 'dropped'}"] += 1
            if options.unlabelled == "drop":
                continue
        yield Sample(f"{shard.name}/{readable(key)}", labels, partial(open_member, shard.path, image), shard.split)


def _image(options: Options, shard: Shard, key: str, members: dict[str, Member]) -> Member | None:
    """The image of a sample; None: it has none, which is not to be an error."""
    endings = [ending for ending in members if ending != options.label.lower()]
    if len(endings) > 1:
        said = f"has several images, {endings}; say source.image: [{endings[0]}]"
        raise member_error(shard.path, key, said)
    if not endings and options.missing == "error":
        wanted = "of an image" if options.image is None else f"of source.image, {options.image}"
        said = f"has a label, but no member with an ending {wanted}; or say source.missing: skip"
        raise member_error(shard.path, key, said)
    return members[endings[0]] if endings else None


def _grouped(options: Options, shard: Shard, notes: Counter[str]) -> dict[str, dict[str, Member]]:
    """Images and labels of a shard by key and ending, and what was left out."""
    images = {ending.lower().lstrip(".") for ending in options.image or IMAGE_SUFFIXES}
    found: dict[str, dict[str, Member]] = {}
    others: Counter[str] = Counter()
    for member in members_of(shard.path, "tar"):
        name = re.sub(r"^(\./+)+", "", member.name)
        parts = KEY.fullmatch(name)
        if member.kind != "file":
            notes[LINKS] += member.kind == "link"
            notes[SPECIAL] += member.kind == "special"
        elif parts is None or META.match(name):
            notes[NAMELESS] += 1
        elif (ending := parts[2].lower()) in images or ending == options.label.lower():
            if ending in found.setdefault(parts[1], {}):
                raise member_error(shard.path, name, "is there twice; expected each key once in a shard")
            if member.problem:
                raise member_error(shard.path, name, member.problem)
            found[parts[1]][ending] = member
        else:
            others[ending] += 1
    for ending, count in others.items():
        notes[f"members that are neither image nor label left out (.{shown(ending)})"] += count
    return found


def _labels(
    options: Options, shard: Shard, key: str, members: dict[str, Member], classes: Classes | None
) -> tuple[str, ...]:
    """Class names of a sample, sorted; none: it has none, which is not to be an error."""
    member = members.get(options.label.lower())
    values = [] if member is None else _values(options, shard, member, classes)
    if member is None or not values:
        if options.unlabelled == "error":
            said = (
                f"has no class in a member .{options.label}; give it one, or say source.unlabelled: drop (or keep, in"
            )
            raise member_error(shard.path, key, f"{said} multi_label datasets)")
        return ()
    if options.task == "single_label" and len(values) != 1:
        said = f"holds {len(values)} classes, expected one (task: single_label)"
        raise member_error(shard.path, member.name, said)
    names = [_name(shard, member, each, classes) for each in values]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        said = f"holds the class {shown(twice[0])!r} twice; expected a list of classes, not 0 or 1 for each"
        raise member_error(shard.path, member.name, said)
    return tuple(sorted(names))


def _values(options: Options, shard: Shard, member: Member, classes: Classes | None) -> list[Any]:
    """Numbers and names in a label: of the field of an object or the list that JSON has, else of plain text."""
    text = _text(shard, member)
    if options.label_field is not None or text.startswith("["):
        value = _json(options, shard, member, text)
        return value if isinstance(value, list) else [value] if value not in (None, "") else []
    if classes is not None and text in classes.known:
        return [text]
    parts = [text] if options.task == "single_label" else text.split(SEPARATOR)
    for part in parts:
        if classes is None and SEVERAL[options.task].fullmatch(part):
            joined = "say task: multi_label" if options.task == "single_label" else f"join them by {SEPARATOR!r}"
            said = f"is {shown(text, 80)!r}, which looks like several classes; {joined}, or list all in source.classes"
            raise member_error(shard.path, member.name, said)
    return [name for part in parts if (name := stripped(part))]


def _text(shard: Shard, member: Member) -> str:
    try:
        return stripped(member.read().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise member_error(shard.path, member.name, f"is not text in UTF-8 ({error})") from error


def _json(options: Options, shard: Shard, member: Member, text: str) -> Any:
    """The list that a text is, or the field of an object."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise member_error(shard.path, member.name, f"is not JSON ({shown(error)})") from error
    if options.label_field is None:
        return document
    if not isinstance(document, dict):
        raise member_error(shard.path, member.name, f"is {shown(text, 40)}, expected an object in JSON")
    if options.label_field not in document:
        said = f"has no field {options.label_field!r} (source.label_field); its fields are {some(sorted(document))}"
        raise member_error(shard.path, member.name, shown(said))
    return document[options.label_field]


def _name(shard: Shard, member: Member, value: Any, classes: Classes | None) -> str:
    """The class that a number or a name means."""
    if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
        raise member_error(shard.path, member.name, f"is {shown(value, 80)!r}, expected the number or name of a class")
    name = stripped(value) if isinstance(value, str) else str(value)
    if classes is not None and name in classes.known:
        return name
    number = int(name) if NUMBER.fullmatch(name) and len(name) < 20 else None
    if number is not None and number < 0:
        raise member_error(shard.path, member.name, f"is {number}, which is no class; expected 0 or more, or a name")
    if classes is None:
        return name if number is None else str(number)
    if number is None or classes.numbered:
        said = f"is {shown(name, 80)!r}, which is not one of the {len(classes.names)} classes {some(classes.names)}"
        raise member_error(shard.path, member.name, f"{said} (source.classes)")
    if number >= len(classes.names):
        said = f"is {number}, expected 0 to {len(classes.names) - 1}, the places in source.classes"
        raise member_error(shard.path, member.name, said)
    return classes.names[number]
