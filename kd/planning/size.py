"""What an artefact takes of a disk."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """Bytes of contents, and files and folders."""

    bytes: int = 0
    files: int = 0

    def __add__(self, other: Size) -> Size:
        return Size(self.bytes + other.bytes, self.files + other.files)

    def on_disk(self, block: int) -> int:
        """Bytes of a file system that gives whole blocks, at least one, to every file and folder; an upper bound."""
        return self.bytes + self.files * block
