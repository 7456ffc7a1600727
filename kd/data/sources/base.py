"""What a dataset source is: labelled images from somewhere, before they are packed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from kd.data.options import Task
from kd.options import BaseOptions

if TYPE_CHECKING:
    from PIL.Image import Image

SPLITS = ("train", "val", "test")
SEPARATOR = "|"  # of labels, where several stand in one cell


@dataclass(frozen=True)
class Sample:
    """One labelled image of a source.

    Attributes:
        id: names the sample within its source, whatever the order of files on disk.
        labels: class names, sorted, each once; with `single_label` exactly one.
        open: decodes the picture; called once, when the dataset is packed.
        split: `train`, `val` or `test` where the source itself says so.
    """

    id: str
    labels: tuple[str, ...]
    open: Callable[[], Image]
    split: str | None = None


@dataclass(frozen=True)
class Listing:
    """What a source holds.

    Attributes:
        samples: in any order; their ids are unique.
        notes: what was left out or changed, in words, and how often: `files that are no images left out` -> 3. Notes
            are told on the terminal and in the report, so that nothing is dropped in silence.
    """

    samples: list[Sample]
    notes: dict[str, int] = field(default_factory=dict)


class Source(Protocol):
    """A module in `kd/data/sources/`. Importing one is cheap: heavy imports belong inside its functions."""

    Options: type[BaseOptions]
    """A source of several tasks has an option `task`, which the program fills in with that of the dataset."""
    TASKS: tuple[Task, ...]
    """What its labels are good for."""
    CHANNELS: int
    """1 if every picture is grey, else 3."""

    def fingerprint(self, options: Any) -> dict[str, Any]:
        """What identifies the content: listing digest or package version. Asked in every planning, so it is quick.

        Raises:
            UserError: the source is missing; and its shape is wrong, where a quick look finds that.
        """

    def classes(self, options: Any) -> list[str] | None:
        """The class list that a multi-label source comes with; None: classes are what its samples have.

        Only what is listed officially may lack training images: of 80 classes a small part of COCO shows 79, and
        its network should still have 80 outputs. Without a list, a class is known from its samples alone.
        """

    def read(self, options: Any) -> Listing:
        """All samples, and what was left out or changed."""
