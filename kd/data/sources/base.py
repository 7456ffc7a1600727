"""What a dataset source is: labelled images from somewhere, before they are packed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from kd.options import BaseOptions

if TYPE_CHECKING:
    from PIL.Image import Image

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Sample:
    """One labelled image of a source.

    Attributes:
        id: names the sample within its source, whatever the order of files on disk.
        label: class name.
        open: decodes the picture; called once, when the dataset is packed.
        split: `train`, `val` or `test` where the source itself says so.
    """

    id: str
    label: str
    open: Callable[[], Image]
    split: str | None = None


class Source(Protocol):
    """A module in `kd/data/sources/`. Importing one is cheap: heavy imports belong inside its functions."""

    Options: type[BaseOptions]
    CHANNELS: int
    """1 if every picture is grey, else 3."""

    def fingerprint(self, options: Any) -> dict[str, Any]:
        """What identifies the content, from a look that decodes nothing: listing digest or package version.

        Raises:
            UserError: the source is missing or its shape is wrong.
        """

    def samples(self, options: Any) -> list[Sample]:
        """All samples, in any order; ids are unique."""
