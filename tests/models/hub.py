"""A hub of weights on the loopback address, in place of the real one: what huggingface_hub asks of it, and faults."""

from __future__ import annotations

import hashlib
import re
import time
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from tests.serving import Quiet, Server, running

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILE = "model.safetensors"


class Hub(Server):
    """Repositories of one file each.

    Attributes:
        files: content of `model.safetensors` by repository, such as `timm/test_resnet.r160_in1k`.
        requests: method and path of each, in order.
        status: answer to everything, if it is not what one asks for.
        silent: connections are taken and never answered.
        etag: what is said to be the sha256, if it is not.
        cut: bytes after which a download breaks off.
        says: bytes more than there are that a question after the size is answered with.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files, self.requests = files, list[str]()
        self.status, self.silent, self.etag, self.says = 200, False, "", 0
        self.cut: int | None = None
        super().__init__(Answer)


class Answer(Quiet, BaseHTTPRequestHandler):
    """One request."""

    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        hub = self.server
        hub.requests.append(f"{self.command} {self.path}")
        if hub.silent:
            time.sleep(30)
        found = re.fullmatch(rf"/(.+)/resolve/(?:main|{COMMIT})/{FILE}", self.path)
        content = hub.files.get(found[1]) if found else None
        if hub.status != 200 or content is None:
            error = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT} if found is None else {}
            self.head(404 if hub.status == 200 else hub.status, {"Content-Length": "0"} | error)
            return
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        part = content[start:]
        more = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
        size = len(part) + (0 if body else hub.says)
        etag = hub.etag or hashlib.sha256(content).hexdigest()
        known = {"Content-Length": str(size), "X-Repo-Commit": COMMIT, "ETag": f'"{etag}"', "X-Linked-ETag": etag}
        self.head(206 if start else 200, known | more)
        if body:
            self.wfile.write(part[: hub.cut])
            self.close_connection |= hub.cut is not None

    def head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


def serving(files: dict[str, bytes]) -> AbstractContextManager[Hub]:
    """A hub that is there until the block ends."""
    return running(Hub(files))


def environment(address: str, home: Path) -> dict[str, str]:
    """Variables by which huggingface_hub asks a hub and caches in a folder."""
    return {"HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
