"""Reading a results folder that others may write to: what lies there is not trusted.

Artefacts consist of plain files and folders, and all of them lie in their own folder RESULTS/STAGE/NAME/KEY. A link
could lead out of it, to be read, written or removed by whoever works here, so none is followed. Only RESULTS itself
may be a link, since that is the user's choice. What is looked at is what lies there when a job begins: somebody who
puts a link there while it runs, on purpose, is not guarded against.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kd.common.errors import UserError, shown

RECORD_BYTES = 64 << 20  # of a small JSON file, at most
LINKED = "a results folder must hold plain files and folders only (RESULTS itself may be a link); remove it"


def is_plain_file(path: Path) -> bool:
    """Whether a regular file, and no link to one, has this name."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def is_plain_folder(path: Path) -> bool:
    """Whether a folder, and no link to one, has this name."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def open_plain(path: Path, flags: int = os.O_RDONLY) -> int:
    """A descriptor of a regular file, which is not reached through a link at its name.

    Raises:
        UserError: a link, a folder, a pipe or a device has this name.
        OSError: it cannot be opened, or is not there.
    """
    try:
        # Without O_NONBLOCK, opening a pipe would wait for its other end.
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise UserError(f"{path}: is no plain file; {LINKED}") from error
        if error.errno == errno.ENOTDIR:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UserError(f"{path}: is no plain file; {LINKED}")
    return descriptor


def read_json(path: Path, limit: int = RECORD_BYTES) -> Any:
    """The value, of whatever type, in a JSON file that may have `limit` bytes.

    Raises:
        UserError: it is no plain file, too large, or not JSON.
        OSError: it cannot be opened, or is not there.
    """
    with os.fdopen(open_plain(path), "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > limit:
            raise UserError(f"{path}: has {size} bytes, expected at most {limit}; delete it")
        content = stream.read(limit + 1)
    try:
        return json.loads(content)
    except RecursionError as error:
        raise UserError(f"{path}: is not valid JSON (nested too deeply); delete it") from error
    except ValueError as error:
        raise UserError(f"{path}: is not valid JSON ({shown(error)}); delete it") from error


def check_place(directory: Path) -> None:
    """Refuse an artefact directory, RESULTS/STAGE/NAME/KEY, of which the last three are not folders of RESULTS.

    Raises:
        UserError: one of them is a link, or something else than a folder.
    """
    for path in (*reversed(directory.parents[:2]), directory):
        if path.name and os.path.lexists(path) and not is_plain_folder(path):
            raise UserError(f"{path}: is a link or no folder; {LINKED}")


def check_plain(directory: Path) -> None:
    """Refuse an artefact directory in which, at whatever depth, is anything but plain files and folders.

    Raises:
        UserError: naming the first link, pipe, socket or device.
    """
    check_place(directory)
    found = next(_not_plain(directory), None)
    if found is not None:
        raise UserError(f"{found}: is a link or no plain file; {LINKED}")


def _not_plain(directory: Path) -> Iterator[Path]:
    waiting = [directory]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))
                    elif not entry.is_file(follow_symlinks=False):
                        yield Path(entry.path)
        except FileNotFoundError:  # not there, or just removed
            continue
