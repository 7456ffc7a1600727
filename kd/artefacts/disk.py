"""Disks: what is free, what an artefact takes, who may write; and one line that says what to do if one fails."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kd.common.errors import UserError

_FREE = "free some space (`python -m kd gc` lists what no run needs)"
_OWN = (
    "check its owner and mode (for a results folder that people share: `chmod g+ws` on it, and `chmod -R g+rwX` on what"
    " is there)"
)
ADVICE = {
    errno.ENOSPC: _FREE,
    errno.EDQUOT: _FREE,
    errno.EROFS: "mount it for writing, or set `results` to another folder",
    errno.EACCES: _OWN,
    errno.EPERM: _OWN,
}
# Libraries in Rust (safetensors) hand the number on in their text.
_RUST = re.compile(r"\(os error (\d+)\)")

_TORCH = ("PytorchStreamWriter", "unexpected pos")


@dataclass(frozen=True)
class Size:
    """Bytes of contents, and files and folders."""

    bytes: int = 0
    files: int = 0

    def __add__(self, other: Size) -> Size:
        return Size(self.bytes + other.bytes, self.files + other.files)

    def __sub__(self, other: Size) -> Size:
        """What is left to be written where `other` is there, which may be more."""
        return Size(max(0, self.bytes - other.bytes), max(0, self.files - other.files))

    def on_disk(self, block: int) -> int:
        """Bytes of a file system that gives whole blocks, at least one, to every file and folder; an upper bound."""
        return self.bytes + self.files * block


@dataclass(frozen=True)
class Free:
    """Free bytes and inodes of a file system; `inodes` None: it does not count them."""

    folder: Path
    bytes: int
    inodes: int | None
    block: int


def free_space(results: Path) -> Free:
    """Free space of the file system that a folder is on, or will be on."""
    folder = _existing(results)
    status = os.statvfs(folder)
    inodes = status.f_favail if status.f_files else None
    return Free(folder, status.f_bavail * status.f_frsize, inodes, status.f_frsize)


def share(results: Path) -> None:
    """Let this process write for its group, whatever its umask, if a results folder says that it is shared.

    It says so with `chmod g+ws`: its group may write, and what is made in it belongs to that group. Elsewhere, the
    umask stays as the user has it.
    """
    mode = _existing(results).stat().st_mode
    if mode & stat.S_ISGID and mode & stat.S_IWGRP:
        before = os.umask(0o077)
        os.umask(before & ~stat.S_IRWXG)


def _existing(folder: Path) -> Path:
    """A folder, or the nearest one above it that is there."""
    folder = folder.absolute()
    return next(each for each in (folder, *folder.parents) if each.exists())


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn the failure of a disk, also as the cause of another error, into a `UserError`.

    It names `folder` where the failure names no file.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        text = explain(error, folder)
        if text is None:
            raise
        raise UserError(text) from error


def explain(error: BaseException, folder: Path) -> str | None:
    """What went wrong, with which file and what to do; None if no disk is the cause of an error.

    An error that merely came up while another one was handled has its own cause, and is not explained by that one.
    """
    seen: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in seen:
        seen.append(link)
        number, path = _failure(link)
        if number in ADVICE:
            return (
                f"{path or folder}: {os.strerror(number).lower()}; {ADVICE[number]};"
                " what was finished is kept: run the same command again"
            )
        # When torch cannot write to a stream, its closing words hide the stream's own error.
        hidden = isinstance(link, RuntimeError) and any(words in str(link) for words in _TORCH)
        link = link.__cause__ or (link.__context__ if hidden else None)
    return None


def _failure(error: BaseException) -> tuple[int, str | None]:
    """Error number and file of one link in a chain of errors."""
    if isinstance(error, OSError):
        return error.errno or 0, None if error.filename is None else str(error.filename)
    found = _RUST.search(str(error))
    return int(found[1]) if found else 0, None
