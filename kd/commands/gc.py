"""`python -m kd gc`: list and remove what no config needs."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from kd.commands.invalidate import remove
from kd.commands.stored import Stored, disk_usage, readable_size, stored_in
from kd.jobs.files import PARTIAL
from kd.jobs.lock import DEAD_AFTER_SECONDS, BeingWrittenError, current_writer
from kd.plan import Plan


def collect(plans: list[Plan], *, yes: bool) -> Iterator[str]:
    """List what no config needs, and remove it if `yes`; what is being written is never touched.

    Needed are the artefacts that a config wants, and whatever those that are there say they were made from.

    Args:
        plans: of all configs that are in use on the results folders.
        yes: remove it; otherwise only say what would be removed.
    """
    wanted = {job.directory for plan in plans for job in plan.jobs.values()}
    total = 0
    for results in dict.fromkeys(plan.config.results for plan in plans):
        there = list(stored_in(results))
        needed = _with_origins(wanted, there)
        for artefact in [each for each in there if each.directory not in needed]:
            writer = current_writer(artefact.directory)
            if writer is not None:
                yield f"{artefact.directory}: kept, is being written by {writer}"
                continue
            state = "" if artefact.manifest is not None else ", unfinished"
            size = disk_usage(artefact.directory)
            total += size
            yield f"{artefact.directory}: {readable_size(size)}{state}"
            if yes:
                yield from _removed(artefact)
        for path in [*_leftovers(results), *_orphaned_logs(results, needed)]:
            size = disk_usage(path)
            total += size
            yield f"{path}: {readable_size(size)}"
            if yes:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    yield f"{readable_size(total)} freed" if yes else f"{readable_size(total)} would be freed; add --yes to do it"


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


def _removed(artefact: Stored) -> Iterator[str]:
    try:
        remove(artefact)
    except BeingWrittenError as error:
        yield f"kept: {error}"


def _leftovers(results: Path) -> Iterator[Path]:
    """What processes left that were killed while they wrote or removed something."""
    now = time.time()
    for path in sorted(results.rglob(f"*{PARTIAL}")):
        folders = [folder for folder in path.parents if folder.is_relative_to(results)]
        inside = any(folder.name.endswith(PARTIAL) for folder in folders)
        old = path.exists() and now - path.stat().st_mtime > DEAD_AFTER_SECONDS
        if old and not inside and not any(current_writer(folder) for folder in folders):
            yield path


def _orphaned_logs(results: Path, needed: set[Path]) -> Iterator[Path]:
    """Logs of artefacts that are neither needed nor there."""
    for path in sorted((results / "logs").glob("*/*-*.log")):
        name, key = path.stem.rsplit("-", 1)
        directory = results / path.parent.name / name / key
        if directory not in needed and not directory.is_dir():
            yield path
