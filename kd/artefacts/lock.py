"""One writer per artefact directory, also where several hosts share the file system.

`flock` on `.lock` keeps apart the processes of one host (of all hosts where the file system supports that) and frees
itself when its holder dies. Under it, `.writer` says who writes; its holder touches it every few seconds, so that
another host can tell a live writer from a dead one. Who only asks takes no lock, so that a question is in nobody's way.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import resource
import shutil
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from kd.artefacts.files import PARTIAL
from kd.artefacts.reading import check_place, open_plain
from kd.common.errors import UserError, shown

LOCK = ".lock"
WRITER = ".writer"
BEAT_SECONDS = 15.0
DEAD_AFTER_SECONDS = 120.0
POLL_SECONDS = 2.0
WRITER_BYTES = 4096  # of `.writer`, at most

log = logging.getLogger("kd")


class BeingWrittenError(UserError):
    """Another process writes the directory."""


Word = Annotated[str, StringConstraints(max_length=300)]


class Writer(BaseModel):
    """The process that writes a directory, as its `.writer` file says."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    host: Word
    pid: int
    slurm_job: Word | None
    since: Word
    token: Word
    """Tells apart two writers of one process."""

    def __str__(self) -> str:
        slurm = f", Slurm job {self.slurm_job}" if self.slurm_job else ""
        return shown(f"{self.host}, process {self.pid}{slurm}, since {self.since}")


class _Claim(NamedTuple):
    """A `.writer` as it was found."""

    writer: Writer | None
    """None: it cannot be read, perhaps as it is just being written."""
    beaten: int
    """Time of the last heartbeat, in ns."""


@contextmanager
def writing(directory: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a directory, made if it is not there, for this process; `wait` while another one holds it.

    A controller that was killed can leave a live job behind, and the next controller then starts a second
    copy: that copy waits here and finds the work done.

    Raises:
        BeingWrittenError: another process holds it, and `wait` is False.
    """
    with _held(directory, wait=wait) as mine:
        path, done = directory / WRITER, threading.Event()
        heart = threading.Thread(target=_beat, args=(path, mine, done), daemon=True)
        heart.start()
        try:
            yield
        finally:
            done.set()
            heart.join()


def remove_directories(directories: Sequence[Path]) -> None:
    """Remove directories, in this order, with all that is in them: all, or where one cannot be removed, none.

    Raises:
        BeingWrittenError: another process holds one of them.
        OSError: one of them may not be renamed.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each lock is an open file
    moved: list[tuple[Path, Path]] = []
    with ExitStack() as locks:
        for directory in directories:
            locks.enter_context(_held(directory, wait=False))
        try:
            for directory in directories:
                removed = directory.with_name(f".{directory.name}.{uuid.uuid4().hex}{PARTIAL}")
                directory.rename(removed)
                moved.append((directory, removed))
        except OSError:
            for directory, removed in reversed(moved):
                removed.rename(directory)
            raise
    for _, removed in moved:
        shutil.rmtree(removed)


def current_writer(directory: Path) -> str | None:
    """Who writes a directory right now, in words, or None."""
    claim = _read(directory / WRITER)
    if claim is None:
        return None
    if claim.writer is not None and claim.writer.host == socket.gethostname():
        alive = _is_locked(directory / LOCK)
    else:
        alive = _seconds_since(claim, directory) < DEAD_AFTER_SECONDS
    return str(claim.writer or "another process") if alive else None


def _is_locked(path: Path) -> bool:
    """Whether a process of this host holds a lock file, as the kernel lists them, without taking it."""
    try:
        inode = path.lstat().st_ino
        listed = Path("/proc/locks").read_text()
    except FileNotFoundError:
        return False
    return any(" FLOCK " in line and f":{inode} " in line for line in listed.splitlines())


@contextmanager
def _held(directory: Path, *, wait: bool) -> Iterator[Writer]:
    """Hold a directory and say so in it."""
    with _flocked(directory, wait=wait) as exclusive:
        path = directory / WRITER
        mine = _claim(path, exclusive=exclusive, wait=wait)
        try:
            yield mine
        finally:
            if _is_held_by(path, mine):
                path.unlink(missing_ok=True)


@contextmanager
def _flocked(directory: Path, *, wait: bool) -> Iterator[bool]:
    """Hold the lock file; False where the file system has no such locks."""
    path = directory / LOCK
    while True:
        check_place(directory)
        directory.mkdir(parents=True, exist_ok=True)
        with os.fdopen(open_plain(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "a") as stream:
            exclusive = _flock(stream, directory, wait=wait)
            try:
                same = os.path.samestat(path.lstat(), os.fstat(stream.fileno()))
            except FileNotFoundError:
                same = False
            if same:  # else the directory was removed while this process waited for it
                yield exclusive
                return


def _flock(stream: IO[str], directory: Path, *, wait: bool) -> bool:
    try:
        return lock_file(stream)
    except BlockingIOError:
        _say_who_writes(directory, _read(directory / WRITER), wait=wait)
        fcntl.flock(stream, fcntl.LOCK_EX)
        return True


def lock_file(stream: IO[str]) -> bool:
    """Take a lock; False where the file system has no such locks.

    Raises:
        BlockingIOError: another process has it.
    """
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK):
            raise
        return False
    return True


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
    while not _create(path, mine.model_dump_json()):
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
    """The claim in a directory, or None.

    Raises:
        UserError: a link, or something else than a file, has its name.
    """
    try:
        with os.fdopen(open_plain(path), "rb") as stream:  # opening makes network file systems look up the true times
            beaten, text = os.fstat(stream.fileno()).st_mtime_ns, stream.read(WRITER_BYTES)
    except FileNotFoundError:
        return None
    try:
        return _Claim(Writer.model_validate_json(text), beaten)
    except ValidationError:
        return _Claim(None, beaten)


def _is_held_by(path: Path, writer: Writer) -> bool:
    with suppress(UserError):
        claim = _read(path)
        return claim is not None and claim.writer == writer
    return False


def _seconds_since(claim: _Claim, directory: Path) -> float:
    """Seconds since the last heartbeat by the clock of the file system, since those of hosts differ."""
    try:
        with tempfile.NamedTemporaryFile(dir=directory, prefix=".clock-") as stream:
            now = os.fstat(stream.fileno()).st_mtime_ns
    except PermissionError:  # somebody else's results, of which only the state is asked
        now = time.time_ns()
    return abs(now - claim.beaten) / 1e9  # a claim from the future is as little alive as one from the past


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
