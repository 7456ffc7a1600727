"""One writer per artefact directory, also where several hosts share the file system.

`flock` on `.lock` keeps apart the processes of one host (of all hosts where the file system supports that) and frees
itself when its holder dies. Under it, `.writer` says who writes; its holder touches it every few seconds, so that
another host can tell a live writer from a dead one.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import shutil
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from kd.jobs.errors import UserError
from kd.jobs.files import PARTIAL

LOCK = ".lock"
WRITER = ".writer"
BEAT_SECONDS = 15.0
DEAD_AFTER_SECONDS = 120.0
POLL_SECONDS = 2.0

log = logging.getLogger("kd")


class BeingWrittenError(UserError):
    """Another process writes the directory."""


@dataclass(frozen=True)
class Writer:
    """Who writes a directory, as its `.writer` says."""

    host: str
    pid: int
    slurm_job: str | None
    since: str
    token: str
    """Tells apart two writers of one process."""

    def __str__(self) -> str:
        slurm = f", Slurm job {self.slurm_job}" if self.slurm_job else ""
        return f"{self.host}, process {self.pid}{slurm}, since {self.since}"


@dataclass(frozen=True)
class _Claim:
    """A `.writer` as it was found."""

    writer: Writer | None
    """None: it cannot be read, perhaps as it is just being written."""
    beaten: int
    """Time of the last heartbeat, in ns."""


@contextmanager
def writing(directory: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the directory for this process.

    A controller that was killed can leave a live job behind, and the next controller then starts a second
    copy: that copy waits here and finds the work done.

    Args:
        directory: to be held; made if it is not there.
        wait: while another process holds it.

    Raises:
        BeingWrittenError: another process holds it, and `wait` is False.
    """
    with _flocked(directory, wait=wait) as exclusive:
        path = directory / WRITER
        mine = _claim(path, exclusive=exclusive, wait=wait)
        done = threading.Event()
        heart = threading.Thread(target=_beat, args=(path, mine, done), daemon=True)
        heart.start()
        try:
            yield
        finally:
            done.set()
            heart.join()
            if _is_held_by(path, mine):
                path.unlink(missing_ok=True)


def remove_directory(directory: Path) -> None:
    """Remove a directory with all that is in it; it is gone from its name at once.

    Raises:
        BeingWrittenError: another process holds it.
    """
    removed = directory.with_name(f".{directory.name}.{uuid.uuid4().hex}{PARTIAL}")
    with _flocked(directory, wait=False) as exclusive:
        _claim(directory / WRITER, exclusive=exclusive, wait=False)
        directory.rename(removed)
    shutil.rmtree(removed)


def current_writer(directory: Path) -> str | None:
    """Who writes a directory right now, in words, or None."""
    claim = _read(directory / WRITER)
    who = str((claim and claim.writer) or "another process")
    if (directory / LOCK).is_file():
        with (directory / LOCK).open("rb") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return who
            except OSError as error:
                refuse_unless_unsupported(error)
    if claim is None or (claim.writer and claim.writer.host == socket.gethostname()):
        return None
    return who if _seconds_since(claim, directory) < DEAD_AFTER_SECONDS else None


def is_written_by_this_slurm_job(directory: Path) -> bool:
    """Whether a process of the Slurm job that this one belongs to writes the directory."""
    claim = _read(directory / WRITER)
    return claim is not None and claim.writer is not None and claim.writer.slurm_job == os.environ.get("SLURM_JOB_ID")


@contextmanager
def _flocked(directory: Path, *, wait: bool) -> Iterator[bool]:
    """Hold the lock file; False where the file system has no such locks."""
    path = directory / LOCK
    while True:
        directory.mkdir(parents=True, exist_ok=True)
        with path.open("a") as stream:
            exclusive = _flock(stream, directory, wait=wait)
            try:
                same = os.path.samestat(path.stat(), os.fstat(stream.fileno()))
            except FileNotFoundError:
                same = False
            if same:  # else the directory was removed while this process waited for it
                yield exclusive
                return


def _flock(stream: IO[str], directory: Path, *, wait: bool) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _say_who_writes(directory, _read(directory / WRITER), wait=wait)
        fcntl.flock(stream, fcntl.LOCK_EX)
    except OSError as error:
        refuse_unless_unsupported(error)
        return False
    return True


def refuse_unless_unsupported(error: OSError) -> None:
    """Raise what `flock` met again, unless it is that the file system has no such locks."""
    if error.errno not in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK):
        raise error


def _say_who_writes(directory: Path, claim: _Claim | None, *, wait: bool) -> None:
    who = (claim and claim.writer) or "another process"
    if not wait:
        raise BeingWrittenError(f"{directory}: is being written by {who}")
    log.info("waiting: %s is being written by %s", directory, who)


def _claim(path: Path, *, exclusive: bool, wait: bool) -> Writer:
    """Create `.writer`, taking it over from a writer that is dead."""
    mine = Writer(
        host=socket.gethostname(),
        pid=os.getpid(),
        slurm_job=os.environ.get("SLURM_JOB_ID"),
        since=time.strftime("%Y-%m-%d %H:%M:%S"),
        token=uuid.uuid4().hex,
    )
    told = False
    while not _create(path, json.dumps(vars(mine))):
        found = _read(path)
        if found is None:
            continue
        # A live writer of this host would hold the lock that this process has.
        dead = exclusive and found.writer is not None and found.writer.host == mine.host
        if dead or _seconds_since(found, path.parent) > DEAD_AFTER_SECONDS:
            _remove_stale(path, found)
            continue
        if not told:
            _say_who_writes(path.parent, found, wait=wait)
            told = True
        time.sleep(POLL_SECONDS)
    return mine


def _create(path: Path, text: str) -> bool:
    """Create a file; False if it exists."""
    try:
        stream = path.open("x")
    except FileExistsError:
        return False
    try:
        with stream:
            stream.write(text)
    except OSError:
        path.unlink()
        raise
    return True


def _remove_stale(path: Path, stale: _Claim) -> None:
    """Move the claim of a dead writer away, if it is still that one."""
    moved = path.with_name(f"{WRITER}.{uuid.uuid4().hex}")
    try:
        path.rename(moved)
    except FileNotFoundError:
        return
    if _read(moved) == stale:
        log.info("taking over %s from %s, which is gone", path.parent, stale.writer or "an unknown process")
    else:  # meanwhile somebody else took it over, or it came back to life
        with suppress(FileExistsError):
            os.link(moved, path)
    moved.unlink()


def _read(path: Path) -> _Claim | None:
    try:
        with path.open() as stream:  # opening makes network file systems look up the true times
            beaten, text = os.fstat(stream.fileno()).st_mtime_ns, stream.read()
    except FileNotFoundError:
        return None
    try:
        return _Claim(Writer(**json.loads(text)), beaten)
    except (ValueError, TypeError):
        return _Claim(None, beaten)


def _is_held_by(path: Path, writer: Writer) -> bool:
    claim = _read(path)
    return claim is not None and claim.writer == writer


def _seconds_since(claim: _Claim, directory: Path) -> float:
    """Seconds since the last heartbeat by the clock of the file system, since those of hosts differ."""
    try:
        with tempfile.NamedTemporaryFile(dir=directory, prefix=".clock-") as stream:
            now = os.fstat(stream.fileno()).st_mtime_ns
    except PermissionError:  # somebody else's results, of which only the state is asked
        now = time.time_ns()
    return (now - claim.beaten) / 1e9


def _beat(path: Path, mine: Writer, done: threading.Event) -> None:
    """Touch the claim until done; if it is another's, end this process, as two writers would spoil the artefact."""
    while not done.wait(BEAT_SECONDS):
        try:
            if not _is_held_by(path, mine):
                log.error("%s: another process took over this directory; this one ends", path.parent)
                os._exit(1)
            os.utime(path)
        except OSError as error:
            log.warning("%s: no heartbeat: %s", path, error)
