"""Disks that are full, read-only or another's: one line that says what to do, whoever met it."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kd.jobs.errors import UserError

_FREE = "free some space (`python -m kd gc` lists what no config needs)"
_OWN = "check its owner and mode, or set `results` to a folder that you may write to"
ADVICE = {
    errno.ENOSPC: _FREE,
    errno.EDQUOT: _FREE,
    errno.EROFS: "mount it for writing, or set `results` to another folder",
    errno.EACCES: _OWN,
    errno.EPERM: _OWN,
}
# Libraries in Rust (safetensors) hand the number on in their text; torch.save hands nothing on.
_RUST = re.compile(r"\(os error (\d+)\)")
_TORCH = ("PytorchStreamWriter", "unexpected pos")


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn the failure of a disk, also one that lies behind another error, into a `UserError`.

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
    """What went wrong, with which file and what to do; None if no disk is behind an error."""
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
        link = link.__cause__ or link.__context__
    return None


def _failure(error: BaseException) -> tuple[int, str | None]:
    """Error number and file of one link in a chain of errors."""
    if isinstance(error, OSError):
        return error.errno or 0, None if error.filename is None else str(error.filename)
    text = str(error)
    found = _RUST.search(text)
    if found:
        return int(found[1]), None
    return errno.ENOSPC if any(word in text for word in _TORCH) else 0, None
