"""Servers of tests on the loopback address, in place of hosts on the internet."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeVar


class Server(ThreadingHTTPServer):
    """Answers by a handler, at a port that is free."""

    daemon_threads = True

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


ServerT = TypeVar("ServerT", bound=Server)


class Quiet:
    """A handler that logs nothing."""

    def log_message(self, *arguments: object) -> None:
        """Nothing."""


@contextmanager
def running(server: ServerT) -> Iterator[ServerT]:
    """A server that is there until the block ends."""
    with server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
