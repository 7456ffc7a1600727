"""A host of files on the loopback address, in place of those that datasets are published on, and its faults."""

from __future__ import annotations

import io
import tarfile
import time
import zipfile
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from http.server import BaseHTTPRequestHandler

from tests.serving import Quiet, Server, running


class Host(Server):
    """Files by name.

    Attributes:
        requests: path and first byte of each, in order.
        status: answer to everything, if it is not what one asks for.
        cut: bytes after which an answer breaks off.
        ranges: whether a file can be had from its middle.
        silent: seconds until an answer.
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files, self.requests = dict(files), list[tuple[str, int]]()
        self.status, self.ranges, self.silent = 200, True, 0.0
        self.cut: int | None = None
        super().__init__(Answer)


class Answer(Quiet, BaseHTTPRequestHandler):
    """One request."""

    server: Host

    def do_GET(self) -> None:
        host = self.server
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        host.requests.append((self.path, start))
        time.sleep(host.silent)
        content = host.files.get(self.path.lstrip("/"))
        if host.status != 200 or content is None:
            self.send_error(404 if host.status == 200 else host.status)
            return
        if host.ranges and start >= len(content) > 0:
            self.send_error(416)
            return
        part = content[start:] if host.ranges else content
        self.send_response(206 if host.ranges else 200)
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        with suppress(ConnectionError):  # nobody waits for it any more
            self.wfile.write(part[: host.cut])


def hosting(files: Mapping[str, bytes]) -> AbstractContextManager[Host]:
    """A host that is there until the block ends."""
    return running(Host(files))


def tar(content: Mapping[str, bytes], compression: str = "gz") -> bytes:
    """A tar file of these files; `compression` as in tarfile's modes, empty for none."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{compression}") as archive:  # type: ignore[call-overload]
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def zipped(content: Mapping[str, bytes]) -> bytes:
    """A zip file of these files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return buffer.getvalue()
