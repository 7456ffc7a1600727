"""Being asked to stop: SIGTERM, as of a job that is cancelled, requeued or out of time, and SIGINT, as of Ctrl-C.

Whoever can be cut off anywhere, since what it wrote is kept, is: `Stopped` is raised where it happens to be. Whoever
has something to write first postpones that to a moment of its own.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

log = logging.getLogger("kd")


class Stopped(SystemExit):
    """The process was asked to stop: it ends with 128 + the signal's number, and may be started again."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number).name


class _Request:
    """At most one in the life of a process: whoever asks again, in haste, must not spoil what is being written."""

    number: int | None = None
    postponed = False


_request = _Request()


def listen() -> None:
    """Raise `Stopped` in this, the main thread when the process is asked to stop."""
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, _answer)


def _answer(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of a signal handler
    if _request.number is not None:
        return
    _request.number = number
    if not _request.postponed:
        raise Stopped(number)
    log.info("%s: stopping at the end of this step", signal.Signals(number).name)


@contextmanager
def postponed() -> Iterator[None]:
    """Let the work inside ask for itself, with `stop_requested` or `stop_if_requested`."""
    _request.postponed = True
    try:
        yield
    finally:
        _request.postponed = False


@contextmanager
def not_postponed() -> Iterator[None]:
    """Inside `postponed`: work that can be cut off anywhere."""
    _request.postponed = False
    stop_if_requested()
    try:
        yield
    finally:
        _request.postponed = True


def stop_requested() -> bool:
    """Whether this process was asked to stop."""
    return _request.number is not None


def stop_if_requested() -> None:
    """Raise `Stopped` if this process was asked to stop."""
    if _request.number is not None:
        raise Stopped(_request.number)
