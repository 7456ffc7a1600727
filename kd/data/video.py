"""A video file, or a part of it, that is still to be decoded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Video:
    """A video file, or a part of it.

    Attributes:
        path: of the file.
        start, end: of the part, in seconds by presentation timestamps minus the first one; None: of the file.
    """

    path: Path
    start: float | None = None
    end: float | None = None
