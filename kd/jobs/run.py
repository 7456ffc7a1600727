"""From a command line to a finished artefact: the frame around every stage."""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import shutil
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TextIO, TypeVar

from pydantic import BaseModel, ValidationError

from kd.artefacts.disk import disk_errors, share
from kd.artefacts.files import PARTIAL, remove, replacing, write_text
from kd.artefacts.job import JOB, Job
from kd.artefacts.lock import writing
from kd.artefacts.manifest import (
    MADE_FROM,
    made_from_now,
    made_from_then,
    read_manifest,
    restore_manifest,
    whole_manifest,
    write_manifest,
)
from kd.artefacts.reading import open_plain, read_json
from kd.common.errors import UserError, first_mistake, shown
from kd.common.extras import missing_extras
from kd.jobs.environment import give_devices, is_follower, slurm_step, started_by_srun
from kd.jobs.handover import handed_over
from kd.jobs.stopping import listen

SpecT = TypeVar("SpecT", bound=BaseModel)

JOB_LOG = ".job.log"
FAILED = "failed: "  # begins the last line there of an attempt that met an error
DECISION = ".decision.json"  # of the first process of a Slurm step, for the others: is there anything to compute?
PACKAGE = Path(__file__).parents[1]

log = logging.getLogger("kd")


@dataclass(frozen=True)
class Context(Generic[SpecT]):
    """Everything that a stage works with.

    Attributes:
        spec: the typed spec of the artefact.
        upstream: directory of each upstream artefact, by role; all complete and, unless the stage follows, checked.
        directory: where the stage writes. Hidden files are its scratch space and not part of the artefact.
        kin: finished artefacts that differ from this one only in what their readers do not depend on.
    """

    spec: SpecT
    upstream: dict[str, Path]
    directory: Path
    kin: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """The report of a stage: results for the tables, and the device that the work ran on."""

    result: dict[str, Any]
    device: str = "cpu"


def stage_main(
    spec_type: type[SpecT],
    build: Callable[[Context[SpecT]], Outcome],
    unread: tuple[str, ...] = (),
    *,
    follows: bool = False,
) -> None:
    """Command line of a stage: `python -m kd.stages.<stage> --job FILE`.

    Args:
        spec_type: of the stage.
        build: makes the artefact.
        unread: fields of the spec that readers of the artefact do not depend on.
        follows: it is made again when one of its upstreams was, even if that has the same key. Of their files it reads
            the manifests, and checks itself what else it reads.
    """
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--job", required=True, type=Path, help="what to build, as JSON in a file")
    parser.add_argument("--devices", type=int, default=1, help="GPUs, on each node; 0: the CPU (default: 1)")
    parser.add_argument("--nodes", type=int, default=1, help="nodes, with Slurm (default: 1)")
    options = parser.parse_args()
    give_devices(options.devices, options.nodes)
    listen()
    with user_errors():
        try:
            job = Job.model_validate_json(handed_over("--job", options.job))
            spec = spec_type.model_validate(job.spec)
        except ValidationError as error:
            raise UserError(
                f"--job: {options.job}: is no job of this stage: {': '.join(first_mistake(error))}"
            ) from error
        with _unexpected_errors(), disk_errors(job.directory), _memory_errors():
            for module in job.code:  # of somebody else's, which the config names
                if not module.startswith("kd."):
                    importlib.import_module(module)
            run_job(job, spec, build, unread, follows=follows)


def run_job(
    job: Job,
    spec: SpecT,
    build: Callable[[Context[SpecT]], Outcome],
    unread: tuple[str, ...] = (),
    *,
    follows: bool = False,
) -> None:
    """Build one artefact in its directory, or find that it is already whole; for arguments see `stage_main`.

    Raises:
        UserError: an upstream artefact is missing or damaged, the stage met a user's mistake, or the disk
            cannot be written.
        Stopped: the process was asked to stop; the next start goes on.
    """
    directories = {role: upstream.directory for role, upstream in job.upstream.items()}
    if is_follower():
        _follow(job, lambda: build(Context(spec, directories, job.directory)))
        return
    where = job.directory
    share(where.parents[2])
    # A failing disk is told in words before the log keeps it; the log and the lock may meet one, too.
    with disk_errors(where), writing(where), _logged_in(where), disk_errors(where), _memory_errors(), missing_extras():
        made_from = made_from_now(job) if follows else None
        whole = restore_manifest(job) and (not follows or made_from_then(job) == made_from)
        for partial in where.glob(f".*{PARTIAL}"):  # of an attempt that was killed
            remove(partial)
        if started_by_srun():
            write_text(where / DECISION, json.dumps({"step": slurm_step(), "build": not whole}))
        if whole:
            log.info("%s %s: already built, %s", job.stage, job.name, where)
            return
        write_text(where / JOB, job.model_dump_json())
        for upstream in job.upstream.values() if not follows else ():
            read_manifest(upstream)
        log.info("%s %s: building %s", job.stage, job.name, where)
        started = time.monotonic()
        kin = tuple(directory for directory in job.kin(unread) if whole_manifest(directory) is not None)
        outcome = build(Context(spec, directories, where, kin))
        seconds = time.monotonic() - started
        result = outcome.result | ({MADE_FROM: made_from} if follows else {})
        write_manifest(job, result=result, seconds=seconds, device=outcome.device)
        log.info("%s %s: done in %.1f s", job.stage, job.name, seconds)


def _follow(job: Job, build: Callable[[], object]) -> None:
    """Compute with the first process of a training, which alone writes; end with it or, at the latest, when it ends."""
    log.setLevel(logging.WARNING)
    if started_by_srun():
        while (decision := _decision(job.directory)) is None:  # the first one may wait for another writer
            time.sleep(1)
        if not decision:
            return
    _end_with_parent()
    build()


def _end_with_parent() -> None:
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _decision(directory: Path) -> bool | None:
    """Whether the first process of this Slurm step builds; None: it has not said so yet."""
    try:
        said = read_json(directory / DECISION)
    except (FileNotFoundError, UserError):
        return None
    return bool(said.get("build")) if isinstance(said, dict) and said.get("step") == slurm_step() else None


class _Quiet(logging.StreamHandler[TextIO]):
    """A log that may not be written, as on a full disk: what matters of that is said by whoever writes results."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - as logging calls it
        """Do not print a traceback."""


@contextmanager
def _logged_in(directory: Path) -> Iterator[None]:
    """Keep the log of every attempt in the directory, too: Snakemake deletes its own before each."""
    path = directory / JOB_LOG
    handler = _Quiet(_appended(path))
    handler.setFormatter(logging.Formatter(f"%(asctime)s {socket.gethostname()} {os.getpid()} %(message)s"))
    log.addHandler(handler)
    try:
        yield
    except Exception as error:
        text = str(error)
        if not isinstance(error, UserError):
            handler.emit(logging.makeLogRecord({"msg": "".join(traceback.format_exception(error))}))
            text = _what_and_where(error)
            error.add_note(f"traceback in {path}")
        handler.emit(logging.makeLogRecord({"msg": FAILED + " ".join(text.split())}))
        raise
    finally:
        log.removeHandler(handler)
        handler.stream.close()
        handler.close()


def _appended(path: Path) -> TextIO:
    """A log to append to. If it has other names, as in a copy by hard links, those keep what they have."""
    descriptor = open_plain(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    if os.fstat(descriptor).st_nlink > 1:
        os.close(descriptor)
        with replacing(path) as partial:
            shutil.copyfile(path, partial)
        descriptor = open_plain(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    return os.fdopen(descriptor, "a")


def _what_and_where(error: Exception) -> str:
    """An error that nobody expected: its type and text, and the innermost line of this package that met it."""
    what = f"{type(error).__name__}: {shown(error)}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(PACKAGE)] or frames
    if not own:
        return what
    file = Path(own[-1].filename)
    path = file.relative_to(PACKAGE.parent) if file.is_relative_to(PACKAGE) else file
    return f"{what} in {path} line {own[-1].lineno}"


@contextmanager
def _unexpected_errors() -> Iterator[None]:
    """Say in one line what else stopped a job, and where its traceback is: in the job's log or, without one, above."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        notes = getattr(error, "__notes__", [])
        if not notes:
            traceback.print_exception(error)
        raise UserError("; ".join([_what_and_where(error), *notes[-1:]])) from error


@contextmanager
def _memory_errors() -> Iterator[None]:
    """Say in one line that memory is too small. torch is known by name: importing it takes seconds."""
    try:
        yield
    except MemoryError as error:
        raise UserError(f"out of main memory: {shown(error)}") from error
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":
            raise
        raise UserError(f"out of GPU memory: {str(error).splitlines()[0]}") from error


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn a `UserError`, or a disk that fails, into one last line on stderr and exit status 1."""
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    log.setLevel(logging.INFO)  # of other packages, warnings are enough
    try:
        with disk_errors(Path.cwd()), _memory_errors(), missing_extras():
            yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
