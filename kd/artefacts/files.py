"""Files that are wholly there or not at all, and what a manifest records of each."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath
from typing import Any, BinaryIO

import google_crc32c

from kd.artefacts.job import MANIFEST
from kd.artefacts.reading import is_plain_file, is_plain_folder, open_plain
from kd.common.errors import UserError

PARTIAL = ".partial"
CHECKSUM_BYTES = 4
CHUNK = re.compile(r"c(\.[0-9]+)+")  # the name of a chunk, its place along each axis
BLOCK = 1 << 20


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A hidden path beside `path` to write to; it takes the place of `path` when all went well.

    Nothing partial is ever visible under the final name, and a file that was there stays until the new one
    is on disk. Whatever writes to a finished name must use this: artefacts may share files by hard links. The file
    gets the mode that the umask says, also if a library writes it as a temporary file that only its owner may read.
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{PARTIAL}")  # two writers never meet
    try:
        partial.touch()
        mode = stat.S_IMODE(partial.stat().st_mode)
        yield partial
        with partial.open("rb") as stream:
            if stat.S_IMODE(os.fstat(stream.fileno()).st_mode) != mode:
                os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        partial.replace(path)
    except IsADirectoryError as error:
        raise UserError(f"{path}: is a folder, expected a file or nothing; remove it") from error
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, wholly or not at all."""
    with replacing(path) as partial:
        partial.write_text(text)


def remove(path: Path) -> None:
    """Remove a file, a link itself, or a folder with all that is in it; nothing, if it is not there."""
    if is_plain_folder(path):
        shutil.rmtree(path)
        return
    with suppress(FileNotFoundError, NotADirectoryError):
        path.unlink()


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where hard links do not go.

    Raises:
        UserError: somebody removed it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except FileNotFoundError as error:
        raise UserError(f"{source}: vanished while it was taken over; run the same command again") from error
    except OSError:  # no hard links on this file system, or not to files of another user
        with replacing(target) as partial:
            shutil.copy2(source, partial)


def file_digest(path: Path) -> str:
    """The sha256 of a file."""
    with path.open("rb") as stream:
        return _sha256(stream)


def _sha256(stream: BinaryIO) -> str:
    return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]


def _stored_checksum(stream: BinaryIO, size: int) -> str:
    """The CRC32C that a chunk of Zarr's crc32c codec carries in its last four bytes, as 8 hex digits."""
    stream.seek(max(0, size - CHECKSUM_BYTES))
    return f"{int.from_bytes(stream.read(CHECKSUM_BYTES), 'little'):08x}"


def _computed_checksum(stream: BinaryIO, size: int) -> str:
    """The CRC32C of a chunk without its last four bytes, which should be just that."""
    left, value = size - CHECKSUM_BYTES, 0
    stream.seek(0)
    while left > 0 and (block := stream.read(min(BLOCK, left))):
        value = google_crc32c.extend(value, block)
        left -= len(block)
    return f"{value:08x}"


def file_records(directory: Path) -> list[dict[str, Any]]:
    """Relative path, size in bytes and checksum of every file below `directory`, without hidden and partial ones.

    The checksum is the sha256, but for Zarr chunks the CRC32C that they end with: it can be compared later
    without reading them.

    Raises:
        UserError: a chunk does not fit its own checksum.
    """
    records: list[dict[str, Any]] = []
    with_checksum: dict[PurePath, bool] = {}
    for path in sorted(directory.rglob("*")):
        relative = path.relative_to(directory)
        hidden = any(part.startswith(".") for part in relative.parts) or path.name.endswith(PARTIAL)
        if hidden or relative == PurePath(MANIFEST) or not is_plain_file(path):
            continue
        record: dict[str, Any] = {"path": str(relative), "bytes": path.stat().st_size}
        array = chunk_array(relative)
        if array is not None and array not in with_checksum:
            with_checksum[array] = _ends_with_checksum(directory / array)
        if array is not None and with_checksum[array]:
            with path.open("rb") as stream:
                record["crc32c"] = _stored_checksum(stream, record["bytes"])
                computed = _computed_checksum(stream, record["bytes"])
            if record["crc32c"] != computed:
                raise UserError(f"{path}: damaged while it was written (its CRC32C differs); check the disk, run again")
        else:
            record["sha256"] = file_digest(path)
        records.append(record)
    return records


def chunk_array(path: PurePath) -> PurePath | None:
    """The Zarr array that a file is a chunk of, or None: chunks lie in the folder of their array, as `c.0.3`."""
    in_store = any(part.endswith(".zarr") for part in path.parent.parts)
    return path.parent if in_store and CHUNK.fullmatch(path.name) else None


def _ends_with_checksum(array: Path) -> bool:
    codecs = json.loads((array / "zarr.json").read_text())["codecs"]
    return bool(codecs[-1]["name"] == "crc32c")


def damage(directory: Path, record: dict[str, Any], *, chunks: bool = False) -> str | None:
    """What is wrong with a recorded file, or None.

    Of chunks only the size and the last four bytes are read, so that a missing, cut, swapped or replaced one
    is noticed at once; `chunks`: they are read whole. (Whoever reads their data checks it anyway.)
    """
    path = directory / record["path"]
    field = "crc32c" if "crc32c" in record else "sha256"
    try:
        with os.fdopen(open_plain(path), "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            if size != record["bytes"]:
                return f"{path}: bytes: found {size}, its manifest says {record['bytes']}"
            found = {_stored_checksum(stream, size)} if field == "crc32c" else {_sha256(stream)}
            if field == "crc32c" and chunks:
                found.add(_computed_checksum(stream, size))
    except (FileNotFoundError, NotADirectoryError):
        return f"{path}: is missing"
    except UserError as error:
        return str(error)
    wrong = found - {record[field]}
    return f"{path}: {field}: found {min(wrong)}, its manifest says {record[field]}" if wrong else None
