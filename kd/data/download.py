"""Files from public addresses: downloaded once, resumed where they stopped, and compared with a checksum."""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import urllib.error
import urllib.request
from pathlib import Path

from kd.artefacts.files import replacing
from kd.common.errors import UserError, shown
from kd.data.sources.base import Archive
from kd.jobs.progress import Progress

MIRROR = "KD_DATA_MIRROR"
"""Variable with the address of a folder that has the files under their own names, in the place of their own hosts."""
SECONDS = 20.0  # without an answer or a further byte
BLOCK = 1 << 20
REMEDY = (
    "start the same command again, which goes on where this one stopped; or get the data by hand, unpack them and name"
    " their folder in source.root"
)

log = logging.getLogger("kd")


def address_of(archive: Archive) -> str:
    """Where the file is got from: the mirror, if there is one."""
    mirror = os.environ.get(MIRROR)
    return archive.address if not mirror else f"{mirror.rstrip('/')}/{archive.file_name}"


def download(archive: Archive, folder: Path) -> Path:
    """Get a file, or find that it is there.

    What arrives is kept in a hidden file beside it, so that another attempt asks for the rest alone.

    Returns:
        The whole file, whose checksum is the expected one.

    Raises:
        UserError: the host cannot be reached, refuses, or gives another file.
    """
    target, part = folder / archive.file_name, folder / f".{archive.file_name}.download"
    address = address_of(archive)
    if target.is_file() and _digest(target, archive) == archive.checksum:
        return target
    try:
        _receive(address, part, archive.bytes)
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        code = ""
        if isinstance(error, urllib.error.HTTPError):  # it is the answer, too
            code = f"answers {error.code} "
            error.close()
        raise UserError(f"{address}: cannot be downloaded ({code}{shown(reason)}); {REMEDY}") from error
    found = _digest(part, archive)
    if found != archive.checksum:
        size = part.stat().st_size
        part.unlink()
        raise UserError(
            f"{address}: is another file than expected: {size:,} bytes with {found}, expected {archive.checksum}"
            f" (about {archive.bytes:,} bytes); nothing of it is kept"
        )
    with replacing(target) as partial:
        part.replace(partial)
    return target


def _receive(address: str, part: Path, size: int) -> None:
    """Append what is missing to a part of a file; from its start where the host cannot go on within one."""
    held = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(address, headers={"User-Agent": "kd", "Range": f"bytes={held}-"})
    try:
        answer = urllib.request.urlopen(request, timeout=SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE or not held:
            raise
        error.close()
        return  # all of it is there
    with answer, part.open("ab") as stream:
        if answer.status != http.client.PARTIAL_CONTENT:
            stream.truncate(0)
            held = 0
        left = int(answer.headers["Content-Length"]) if "Content-Length" in answer.headers else None
        progress = Progress(max(size, held + (left or 0)) >> 20, "MiB", held >> 20)
        while block := answer.read(BLOCK):
            stream.write(block)
            progress.step((stream.tell() >> 20) - progress.done)
        if left is not None and stream.tell() - held < left:
            raise http.client.IncompleteRead(b"", held + left - stream.tell())


def _digest(path: Path, archive: Archive) -> str:
    """The checksum of a file, of the kind that the archive has."""
    kind = archive.checksum.partition(":")[0]
    with path.open("rb") as stream:
        return f"{kind}:{hashlib.file_digest(stream, kind).hexdigest()}"
