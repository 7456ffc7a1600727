"""What a dataset source is: labelled images from somewhere, before they are packed. Sources are known by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, cast
from urllib.parse import unquote, urlsplit

from kd.common.options import BaseOptions
from kd.common.registry import Registry
from kd.data.options import Task

SPLITS = ("train", "val", "test")
SplitName = Literal["train", "val", "test"]
SEPARATOR = "|"  # of labels, where several stand in one cell

# The words and their meaning are those of the Hugging Face `datasets` library, so that a folder means the same to both.
_SPLIT_WORDS = {
    "train": {"train", "training"},
    "val": {"val", "valid", "validation", "dev", "development"},
    "test": {"test", "testing", "eval", "evaluation"},
}
_SPLIT_NAME = re.compile(r"([a-z]+?)[\W_]*(?:set|data|split|images)?[\W_]*(?:(?:19|20)\d\d)?")


def split_of(word: str) -> str | None:
    """The split that a folder or a cell of a table names, in any case; None: it names none.

    `Training`, ` train_set ` and `train2017` all name `train`.
    """
    found = _SPLIT_NAME.fullmatch(word.strip().lower())
    name = found[1] if found else ""
    return next((split for split, words in _SPLIT_WORDS.items() if name in words), None)


@dataclass(frozen=True)
class Sample:
    """One labelled image of a source.

    Attributes:
        id: names the sample within its source, whatever the order of files on disk.
        labels: class names, sorted, each once; with `single_label` exactly one.
        open: gives the sample as its modality decodes it, an image as PIL has it; called once, at packing.
        split: `train`, `val` or `test` where the source itself says so.
        group: names what shows much the same, such as clips of one video: a split that is drawn has all of it or none.
    """

    id: str
    labels: tuple[str, ...]
    open: Callable[[], Any]
    split: str | None = None
    group: str | None = None


@dataclass(frozen=True)
class Listing:
    """All samples of a source, and what is said of them.

    Attributes:
        samples: in any order; their ids are unique.
        notes: what was left out or changed, in words, and how often: `files that are no images left out` -> 3. Notes
            are told on the terminal and in the report, so that nothing is dropped in silence.
        classes: the class list that the source comes with; None: classes are what its samples have. Only what is listed
            officially may lack training images, in a multi-label dataset: of 80 classes a small part of COCO shows 79,
            and its network should still have 80 outputs.
    """

    samples: list[Sample]
    notes: dict[str, int] = field(default_factory=dict)
    classes: list[str] | None = None


def check_keep(unlabelled: str, task: Task) -> None:
    """Raise a ValueError if images without a label are to be kept where each has one."""
    if unlabelled == "keep" and task == "single_label":
        raise ValueError("unlabelled: keep needs task: multi_label")


def noted(notes: Mapping[str, int]) -> str:
    """Notes at the end of a message."""
    return "".join(f"; {what}: {count}" for what, count in notes.items())


@dataclass(frozen=True)
class Archive:
    """A file at a public address that the data of a source come in.

    Attributes:
        address: of the file; the last part of its path is the name of the file.
        checksum: `sha256:` or `md5:` and the hexadecimal digest.
        bytes: of the file, about.
        folder: where it is unpacked, below the root of the source; a file that is no archive is put there as it is.
    """

    address: str
    checksum: str
    bytes: int
    folder: str = "."

    @property
    def file_name(self) -> str:
        """The name of the file."""
        return unquote(urlsplit(self.address).path.rsplit("/", 1)[-1])


class Source(Protocol):
    """A module in `kd/data/sources/`. Importing one is cheap: heavy imports belong inside its functions.

    `MODALITY`, `CHANNELS` and `TASKS` may be left out where they are as in `DEFAULTS`. A source that can be
    downloaded has `ARCHIVES`, and an option `root` that may be None; then `fingerprint` is not asked, and `read` is
    given the folder that the archives were unpacked in. One that has to be got by hand has `BY_HAND`, a sentence that
    says where and how.
    """

    MODALITY: str
    """The modality of its samples."""
    Options: type[BaseOptions]
    """A source of several tasks has an option `task`, which the program fills in with that of the dataset."""
    TASKS: tuple[Task, ...]
    """What its labels are good for."""
    CHANNELS: int
    """1 if every image is grey, else 3."""

    def fingerprint(self, options: Any) -> dict[str, Any]:
        """An identifier of the content: listing digest or package version. Every plan asks for it, so it is quick.

        Raises:
            UserError: the source is missing; and its shape is wrong, where a quick look finds that.
        """

    def read(self, options: Any) -> Listing:
        """All samples, what was left out or changed, and the class list."""


SOURCES = Registry(
    "kd.data.sources",
    "kd.sources",
    {"Options": BaseOptions, "fingerprint": Callable, "read": Callable},
    others=("base", "files", "clean", "members", "official", "videos"),
)

DEFAULTS = {"MODALITY": "image", "CHANNELS": 3, "TASKS": ("single_label",)}
"""Of what the module of a source may leave out."""


def load_source(name: str) -> Source:
    """The source of that name, with the defaults of what its module leaves out."""
    module = SOURCES.load(name)
    for attribute, value in DEFAULTS.items():
        vars(module).setdefault(attribute, value)
    return cast("Source", module)


def parse_source(source: dict[str, Any]) -> tuple[Source, BaseOptions]:
    """A `source` section, `type` and options, as the module and its typed options."""
    module = load_source(source["type"])
    return module, module.Options.model_validate({key: value for key, value in source.items() if key != "type"})


def archives_of(name: str) -> tuple[Archive, ...]:
    """What the source of that name can be downloaded as; nothing, if it cannot."""
    return getattr(load_source(name), "ARCHIVES", ())
