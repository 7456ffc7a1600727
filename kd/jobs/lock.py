"""One writer per artefact directory."""

from __future__ import annotations

import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK = ".lock"

log = logging.getLogger("kd")


@contextmanager
def writing(directory: Path) -> Iterator[None]:
    """Hold the directory for this process; wait while another process holds it.

    The kernel drops the lock when its holder dies, however it dies. A controller that was killed can leave
    a live job behind, and the next controller then starts a second copy: that copy waits here and finds
    the work done.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / LOCK).open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            log.info("waiting: %s is being written by %s", directory, stream.read().strip() or "another job")
            fcntl.flock(stream, fcntl.LOCK_EX)
        stream.truncate(0)
        stream.write(f"{socket.gethostname()} pid {os.getpid()} slurm {os.environ.get('SLURM_JOB_ID', '-')}\n")
        stream.flush()
        yield
