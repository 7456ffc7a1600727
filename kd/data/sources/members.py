"""Members of tar and zip files, read where they lie: no name in an archive ever becomes a path on disk."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
import stat
import tarfile
import tempfile
import threading
import weakref
import zipfile
import zlib
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, cast

from kd.common.errors import UserError, shown
from kd.data.sources.files import image_of, readable

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_BYTES = 1 << 30
"""Of one member that is read. No image and no label has more: what unpacks to more is there to fill a memory."""

BLOCK = 512  # of a tar file
COPIED = 1 << 20  # bytes at a time
ZIP_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}
ENCRYPTED = 0x1  # a flag of a zip member
DOS = 0  # the system that made a zip member, and may have written its name with backslashes

Format = Literal["zip", "tar", "gzip", "bzip2", "xz"]
Kind = Literal["file", "folder", "link", "special"]

BEGINNINGS: dict[bytes, Format] = {
    b"PK\3\4": "zip",
    b"PK\5\6": "zip",  # an empty one
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
}
FAULTS = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError),
    *(OSError, EOFError, ValueError, OverflowError, NotImplementedError, RuntimeError),
)
"""What the readers of archives raise for files that are damaged, cut short, or of a kind that they do not know."""


@dataclass(frozen=True)
class Member:
    """What an archive holds under one name.

    Attributes:
        name: as it stands in the archive, with `/`.
        kind: a file, a folder, a link to another file, or a pipe or device.
        size: of a file, in bytes.
        problem: why it cannot be read, in words; empty: it can.
        read: gives the bytes of a file. It may be called from several threads at a time, and raises a UserError.
    """

    name: str
    kind: Kind
    size: int
    problem: str
    read: Callable[[], bytes]


def format_of(path: Path, option: str) -> Format:
    """The format of an archive, by how it begins and not by its name: many a `.tar.gz` is a plain tar file.

    Args:
        path: of the file.
        option: that names it, for messages.

    Raises:
        UserError: it cannot be read, or is no archive.
    """
    if not path.is_file():
        raise UserError(f"{option}: {readable(path)} is not a file; expected an archive")
    try:
        with path.open("rb") as stream:
            start = stream.read(BLOCK)
    except OSError as error:
        raise UserError(f"{option}: {readable(path)}: cannot be read ({error.strerror})") from error
    found = next((known for beginning, known in BEGINNINGS.items() if start.startswith(beginning)), None)
    if found is None and not _is_header(start):
        raise UserError(f"{option}: {readable(path)}: is no archive that is known; expected a zip or a tar file")
    return found or "tar"


def _is_header(block: bytes) -> bool:
    """Whether the first block of a file is one of a tar file: the header of a member, or the end of an empty one."""
    if len(block) == BLOCK and not any(block):
        return True
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.TarError, ValueError):
        return False
    return True


def members_of(path: Path, form: Format) -> Iterator[Member]:
    """All members of an archive, in the order in which they lie there.

    A zip file stays open, and of a compressed tar file its plain copy stays, as long as one of its members is kept.

    Raises:
        UserError: the archive is damaged or cut short.
    """
    try:
        yield from _zip_members(path) if form == "zip" else _tar_members(path, form)
    except FAULTS as error:
        raise _damaged(path, error) from error


def open_member(path: Path, member: Member) -> Image:
    """The image that a member of an archive is, as `open_image` decodes it; for errors see there."""
    return image_of(member.read(), f"{readable(path)}: {shown(readable(member.name))}")


def member_error(path: Path, name: str, said: str) -> UserError:
    """What is wrong with a member of an archive, in words that go on after its name."""
    return UserError(f"{readable(path)}: {shown(readable(name))}: {said}")


def _damaged(path: Path, error: BaseException, name: str = "") -> UserError:
    """An error that a reader of archives has met, in one line."""
    said = f"cannot be unpacked ({shown(error) or type(error).__name__}); get the archive again"
    return member_error(path, name, said) if name else UserError(f"{readable(path)}: {said}")


def _too_large(size: int) -> str:
    return f"has {size} bytes, and at most {MOST_BYTES} are read" if size > MOST_BYTES else ""


# Zip


def _zip_members(path: Path) -> Iterator[Member]:
    archive = zipfile.ZipFile(path)
    for info in archive.infolist():
        name = info.filename.replace("\\", "/") if info.create_system == DOS else info.filename
        problem = _too_large(info.file_size)
        if info.compress_type not in ZIP_METHODS:
            problem = f"is compressed by method {info.compress_type}; expected stored, deflate, bzip2 or lzma"
        if info.flag_bits & ENCRYPTED:
            problem = "is encrypted; pack it again without a password"
        yield Member(name, _zip_kind(name, info), info.file_size, problem, partial(_read_zip, archive, path, info))


def _zip_kind(name: str, info: zipfile.ZipInfo) -> Kind:
    mode = info.external_attr >> 16
    if name.endswith("/") or stat.S_ISDIR(mode):
        return "folder"
    if stat.S_ISLNK(mode):
        return "link"
    return "file" if stat.S_IFMT(mode) in (0, stat.S_IFREG) else "special"


def _read_zip(archive: zipfile.ZipFile, path: Path, info: zipfile.ZipInfo) -> bytes:
    """The content of a member, which must have the size that the archive says.

    Python's reader takes what follows for no part of it; so it is told a larger size, and what unpacks to more is seen.
    """
    wider = copy(info)
    wider.file_size += COPIED  # more than the reader unpacks ahead
    try:
        with archive.open(wider) as stream:
            content = stream.read(info.file_size + 1)
    except FAULTS as error:
        raise _damaged(path, error, info.filename) from error
    if len(content) != info.file_size:
        found = "more" if len(content) > info.file_size else str(len(content))
        said = f"unpacks to {found} bytes, expected {info.file_size} as the archive says; get the archive again"
        raise member_error(path, info.filename, said)
    return content


# Tar


def _tar_members(path: Path, form: Format) -> Iterator[Member]:
    tar = _Tar(path, form)
    with tar.unpacked() as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
        while (info := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # a list that would grow with the archive
            problem = "is a sparse file; pack it whole" if info.issparse() else _too_large(info.size)
            read = partial(tar.read, info.name, info.offset_data, info.size)
            yield Member(info.name, _tar_kind(info), info.size, problem, read)
        _check_end(path, stream, archive.offset)


def _tar_kind(info: tarfile.TarInfo) -> Kind:
    if info.isreg():
        return "file"
    if info.isdir():
        return "folder"
    return "link" if info.issym() or info.islnk() else "special"


def _check_end(path: Path, stream: BinaryIO, offset: int) -> None:
    """That a tar file ends where its members do: Python's reader takes a fault behind the first member for the end."""
    stream.seek(offset)
    end = stream.read(BLOCK)
    if len(end) < BLOCK:
        raise UserError(f"{readable(path)}: is cut short: the zeros at its end are missing; get the archive again")
    if any(end):
        raise UserError(f"{readable(path)}: is damaged: no member begins at byte {offset}; get the archive again")
    while rest := stream.read(COPIED):
        if any(rest):
            raise UserError(f"{readable(path)}: goes on behind its end at byte {offset}; pack its members anew")


class _Tar:
    """Reads members of a tar file by their offsets; of a compressed one from a plain copy, made at the first of them.

    Args:
        path: of the file.
        form: tar, or how it is compressed.
    """

    def __init__(self, path: Path, form: Format) -> None:
        self.path, self.form = path, form
        self._lock = threading.Lock()
        self._copy: BinaryIO | None = None

    def unpacked(self) -> BinaryIO:
        """The plain tar file, as a stream."""
        if self.form == "tar":
            return self.path.open("rb")
        openers: dict[Format, Callable[[Path], object]] = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}
        return cast("BinaryIO", openers[self.form](self.path))

    def read(self, name: str, offset: int, size: int) -> bytes:
        """The content of a member."""
        try:
            if self.form == "tar":
                with self.path.open("rb") as stream:
                    content = os.pread(stream.fileno(), size, offset)
            else:
                content = os.pread(self._plain().fileno(), size, offset)
        except FAULTS as error:
            raise _damaged(self.path, error, name) from error
        if len(content) < size:
            raise member_error(self.path, name, f"ends after {len(content)} of {size} bytes; get the archive again")
        return content

    def _plain(self) -> BinaryIO:
        with self._lock:
            if self._copy is None:
                self._copy = self._copied()
            return self._copy

    def _copied(self) -> BinaryIO:
        """A file without a name, in the folder for temporary files; it is gone when no member is kept any more."""
        with self.unpacked() as stream:
            return spooled(self, self.path, lambda plain: shutil.copyfileobj(stream, plain, COPIED))


def spooled(owner: object, path: Path, write: Callable[[BinaryIO], object]) -> BinaryIO:
    """A temporary copy on disk of what is in a compressed file, without a name.

    Args:
        owner: that the copy is gone with.
        path: of the compressed file, for messages.
        write: writes the copy.

    Raises:
        UserError: there is no space for it.
    """
    plain = cast("BinaryIO", tempfile.TemporaryFile())  # noqa: SIM115 (closed with its owner)
    weakref.finalize(owner, plain.close)
    try:
        write(plain)
        plain.flush()
    except OSError as error:
        if error.errno is None:
            raise
        raise UserError(
            f"{readable(path)}: cannot be unpacked in {tempfile.gettempdir()} ({error.strerror}); set TMPDIR to a"
            " folder that has the space"
        ) from error
    return plain
