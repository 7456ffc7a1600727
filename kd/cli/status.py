"""`python -m kd status`: how far a run is, by what lies in its results folder; so also while Slurm runs it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

from kd.artefacts.job import Job
from kd.artefacts.lock import current_writer
from kd.artefacts.manifest import manifest_path
from kd.artefacts.reading import open_plain
from kd.common.errors import UserError, shown
from kd.jobs.run import FAILED, JOB_LOG
from kd.planning.plan import Plan

State = Literal["finished", "running", "failed", "stopped", "ready", "waiting"]
TAIL, LINE = 4096, 1000  # bytes of a log that hold its last lines, characters of one of them
ERROR = "error: "  # begins the last line of a job that met a mistake of the user's
TRACEBACK = "Traceback (most recent call last)"


def status(plan: Plan, *, everything: bool = False) -> Iterator[str]:
    """A line for each artefact that is not finished, or with `everything` for all; then how many are in which state.

    failed: its last attempt met an error. stopped: it was begun, and was asked to stop or killed. ready: all that it
    reads is there. waiting: it is not.
    """
    found = [(f"{job.stage}/{job.name}", *_progress(job)) for job in plan.jobs.values()]
    width = max(len(name) for name, *_ in found)
    for name, state, detail in found:
        if everything or state != "finished":
            yield f"{state:8}  {name:{width}}  {detail}".rstrip()
    counts = Counter(state for _, state, _ in found)
    yield ", ".join(f"{counts[state]} {state}" for state in get_args(State) if counts[state])


def _progress(job: Job) -> tuple[State, str]:
    """The state of an artefact, and what there is to say of it."""
    try:
        if manifest_path(job.directory) is not None:
            return "finished", ""
        writer, last = current_writer(job.directory), last_line(job.directory / JOB_LOG)
    except (UserError, PermissionError) as error:  # something else lies there, or somebody keeps it to himself
        return "failed", str(error)
    where = f"log: {job.directory / JOB_LOG}"
    if writer is not None:
        return "running", f"{last}; by {writer}; {where}"
    if FAILED in last:
        return "failed", f"{last[last.index(FAILED) + len(FAILED) :]}; {where}"
    if last:
        return "stopped", f"{last}; {where}"
    missing = [up for up in job.upstream.values() if manifest_path(up.directory) is None]
    if missing:
        return "waiting", f"for {len(missing)} of {len(job.upstream)}, such as {missing[0].stage}/{missing[0].name}"
    return "ready", ""


def last_line(path: Path) -> str:
    """The last line of a log, without the time, host and process that it begins with; "" if it is not there.

    Raises:
        UserError: it is no plain file.
    """
    try:
        with os.fdopen(open_plain(path), "rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - TAIL))
            lines = stream.read(TAIL).decode(errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    return shown(lines[-1].split(" ", maxsplit=4)[-1], LINE) if lines else ""


def last_error(log: Path) -> str:
    """The error that a job ended with, by its log.

    Of several processes, any may have had the last word: what begins with `error: ` counts most, then what follows
    a traceback. A job that was killed ends without either.
    """
    try:
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    except OSError:
        lines = []
    lines = [line for line in lines if line]
    errors = [line.removeprefix(ERROR) for line in lines if line.startswith(ERROR)]
    if errors:
        return shown(errors[-1], LINE)
    if any(TRACEBACK in line for line in lines):
        return shown(lines[-1], LINE)
    said = f"its last line is: {shown(lines[-1])}" if lines else "its log is empty"
    return f"ended without an error message, as when it is killed for its memory; {said}"
