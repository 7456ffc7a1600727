"""Disks that are full, read-only or another's: one line that says what to do, whoever met it."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn the failure of a disk, also one that an error names as its cause, into a `UserError`.

    Args:
        folder: to be named where the failure names no file.
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
