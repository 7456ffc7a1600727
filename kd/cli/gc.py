"""`python -m kd gc`: list and remove what no run needs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from kd.artefacts.files import PARTIAL, remove
from kd.artefacts.lock import DEAD_AFTER_SECONDS, current_writer
from kd.cli.invalidate import remove as remove_artefacts
from kd.cli.records import Run, planned_run, record_run, recorded_runs
from kd.cli.stored import Stored, disk_usage, links_in, readable_size, stored_in
from kd.common.errors import UserError
from kd.jobs.handover import stale
from kd.planning.plan import Plan


def collect(
    results: Path, plans: Sequence[tuple[Plan, Path]] = (), *, forget: Sequence[str] = (), yes: bool
) -> Iterator[str]:
    """List what no run needs, and remove it if `yes`; what is being written is never touched.

    Needed are the artefacts that the recorded runs and the given plans want, and whatever those that are there say
    they were made from. The plans, each with its config file, take the place of the runs that this user recorded of the
    same experiments; of the experiments in `forget`, no recorded run counts any more.

    Raises:
        UserError: nothing says what is needed, or the record of a run cannot be read.
    """
    runs, forgotten = _runs(results, plans, forget)
    there = list(stored_in(results))
    sizes = {each.title: disk_usage(each.directory) for each in there}
    for path, run in forgotten:
        yield f"{path}: {'forgotten' if yes else 'would be forgotten'}: {run}"
    for run in runs:
        held = [sizes[title] for title in run.artefacts if title in sizes]
        yield f"kept for {run}: {len(held)} of {len(run.artefacts)} artefacts are there, {readable_size(sum(held))}"
    if yes:
        for plan, configfile in plans:
            record_run(plan, configfile)
        for path, _ in forgotten:
            path.unlink(missing_ok=True)
    needed = _with_origins({results / title for run in runs for title in run.artefacts}, there)
    freed = 0
    for artefact in [each for each in there if each.directory not in needed]:
        size = sizes[artefact.title]
        state = "" if artefact.manifest is not None else ", unfinished"
        try:
            writer = current_writer(artefact.directory)
            if writer is not None:
                yield f"{artefact.directory}: kept, is being written by {writer}"
                continue
            if yes:
                remove_artefacts([artefact])
        except UserError as error:  # it is written by now, or has links where its lock should be
            yield f"kept: {error}"
            continue
        freed += size
        yield f"{artefact.directory}: {readable_size(size)}{state}"
    for path in [*_leftovers(results), *_orphaned_logs(results, needed), *stale(results)]:
        size = disk_usage(path)
        freed += size
        yield f"{path}: {readable_size(size)}"
        if yes:
            remove(path)
    yield from (f"{path}: kept, is a link; nothing behind it is looked at" for path in links_in(results))
    yield f"{readable_size(freed)} freed" if yes else f"{readable_size(freed)} would be freed; add --yes to do it"


def _runs(
    results: Path, plans: Sequence[tuple[Plan, Path]], forget: Sequence[str]
) -> tuple[list[Run], list[tuple[Path, Run]]]:
    """Runs whose artefacts are needed, and those to be forgotten, each of these with its file."""
    recorded = list(recorded_runs(results))
    unknown = set(forget) - {run.experiment for _, run in recorded}
    if unknown:
        known = ", ".join(sorted({run.experiment for _, run in recorded})) or "none"
        raise UserError(f"--forget {min(unknown)}: no run of it is recorded in {results}; recorded are: {known}")
    if not recorded and not plans:
        raise UserError(
            f"{results}: no run is recorded here, so nothing says what is needed; name every config that is in use:"
            " --configfile A --configfile B"
        )
    given = [planned_run(plan, configfile) for plan, configfile in plans]
    replaced = {(run.experiment, run.user) for run in given}
    kept = [run for _, run in recorded if run.experiment not in forget and (run.experiment, run.user) not in replaced]
    return [*kept, *given], [(path, run) for path, run in recorded if run.experiment in forget]


def _with_origins(wanted: set[Path], there: list[Stored]) -> set[Path]:
    """Directories of wanted artefacts, and of all that they were made from."""
    by_key = {each.key: each.directory for each in there}
    origins_of = {each.directory: {by_key[key] for key in each.upstream_keys if key in by_key} for each in there}
    needed, waiting = set(wanted), list(wanted)
    while waiting:
        origins = origins_of.get(waiting.pop(), set())
        waiting += origins - needed
        needed |= origins
    return needed


def _leftovers(results: Path) -> Iterator[Path]:
    """Files left by processes that were killed while they wrote or removed something."""
    now = time.time()
    for name, folders, files in os.walk(results):  # it does not enter links
        folder = Path(name)
        left = [each for each in (*folders, *files) if each.endswith(PARTIAL)]
        folders[:] = [each for each in folders if not each.endswith(PARTIAL)]
        inside = [above for above in (folder, *folder.parents) if above.is_relative_to(results)]
        for path in (folder / each for each in sorted(left)):
            try:
                old = now - path.lstat().st_mtime > DEAD_AFTER_SECONDS
                if old and not any(current_writer(each) for each in inside):
                    yield path
            except (FileNotFoundError, UserError):  # somebody removed it; or who writes there cannot be read
                continue


def _orphaned_logs(results: Path, needed: set[Path]) -> Iterator[Path]:
    """Logs of artefacts that are neither needed nor there."""
    for path in sorted((results / "logs").glob("*/*-*.log")):
        name, key = path.stem.rsplit("-", 1)
        directory = results / path.parent.name / name / key
        linked = any(folder.is_symlink() for folder in path.parents[:2])
        if directory not in needed and not directory.is_dir() and not linked:
            yield path
