"""Archives unpacked into a folder: plain files and folders alone, none outside, and no more than is sensible."""

from __future__ import annotations

import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Generator
from contextlib import closing
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, cast

from kd.common.errors import UserError, shown
from kd.data.sources.files import is_hidden

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
RATIO, SPARE = 100, 1 << 30
"""An archive may hold this many times its own bytes, and so many more."""
BLOCK = 1 << 20


def is_archive(path: Path) -> bool:
    """Whether a file is an archive by its name."""
    return path.name.lower().endswith(SUFFIXES)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive, and once more those that it holds, where they lie. Hidden files and those of systems stay out.

    Args:
        archive: a zip file, or a tar file, compressed or not, whatever its name says.
        folder: where its files go; made if it is missing.

    Raises:
        UserError: it is damaged, or holds a link, a device, a path that leads out of `folder`, or far more than a file
            of its size should.
    """
    folder.mkdir(parents=True, exist_ok=True)
    inner = [path for path in _extract(archive, folder) if is_archive(path)]
    for path in inner:
        _extract(path, path.parent)
        path.unlink()


def _extract(archive: Path, folder: Path) -> list[Path]:
    """Write all files of an archive; their paths."""
    limit = RATIO * archive.stat().st_size + SPARE
    written = []
    try:
        with closing(_members(archive)) as members:
            for name, size, opened in members:
                inside = _inside(archive, name)
                if any(map(is_hidden, inside.parts)):
                    continue
                limit -= size
                if limit < 0:
                    raise UserError(f"{archive}: holds more than {RATIO} times its own size; it is not unpacked")
                path = folder / inside
                path.parent.mkdir(parents=True, exist_ok=True)
                with opened() as content, path.open("wb") as target:
                    shutil.copyfileobj(content, target, BLOCK)
                if path.stat().st_size != size:
                    raise UserError(f"{archive}: {shown(name)}: has {path.stat().st_size} bytes, expected {size}")
                written.append(path)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise UserError(f"{archive}: cannot be unpacked ({shown(error) or type(error).__name__})") from error
    return written


def _members(archive: Path) -> Generator[tuple[str, int, Callable[[], IO[bytes]]]]:
    """Name and bytes of each file, and what opens it."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            for entry in zipped.infolist():
                if stat.S_ISLNK(entry.external_attr >> 16):
                    raise UserError(f"{archive}: {shown(entry.filename)} is a link, expected a file or a folder")
                if not entry.is_dir():
                    yield entry.filename, entry.file_size, partial(zipped.open, entry)
        return
    with tarfile.open(archive, "r:*") as tar:
        for member in tar:
            if not member.isdir() and not member.isfile():
                raise UserError(f"{archive}: {shown(member.name)} is a link or a device, expected a file or a folder")
            if member.isfile():
                yield member.name, member.size, partial(cast("Callable[..., IO[bytes]]", tar.extractfile), member)


def _inside(archive: Path, name: str) -> PurePosixPath:
    """The path of a member below the folder."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise UserError(f"{archive}: {shown(name)} lies outside of the folder that it is unpacked in")
    return path
