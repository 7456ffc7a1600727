"""`python -m kd forecast`: what a run will weigh, before it is started, and whether that fits."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from kd.artefacts.files import chunk_array
from kd.artefacts.job import Job
from kd.artefacts.manifest import manifest_path, whole_manifest
from kd.cli.stored import BINARY, readable_size
from kd.common.errors import UserError
from kd.embeddings.options import CacheOptions
from kd.jobs.environment import main_memory
from kd.planning.plan import Plan
from kd.planning.size import Size
from kd.stages.registry import STAGES

if TYPE_CHECKING:
    from kd.planning.forecast import Forecast


@dataclass(frozen=True)
class Expected:
    """One artefact of a plan.

    Attributes:
        job: that makes it.
        size: once it is finished.
        there: whether it is.
        missing: what is still to be written: nothing, or all but what an unfinished directory holds.
        transient: bytes besides, while it is made.
        savings: bytes less, if it is still to be made, with the label-wise embeddings of positives alone.
    """

    job: Job
    size: Size
    there: bool
    missing: Size
    transient: int
    savings: int = 0


@dataclass(frozen=True)
class Free:
    """Free bytes and inodes of a file system; `inodes` None: it does not count them."""

    folder: Path
    bytes: int
    inodes: int | None
    block: int


def expect(plan: Plan, *, finished: bool = True) -> list[Expected]:
    """Artefacts of a plan but tables and figures, which are small; upstream first.

    Args:
        plan: of everything.
        finished: also those that are finished, whose networks are measured, too.

    Raises:
        UserError: the plan asks for what cannot be, such as a level that an architecture does not have.
    """
    jobs = [job for job in plan.run().jobs.values() if finished or manifest_path(job.directory) is None]
    if not jobs:
        return []
    from kd.planning.forecast import Forecast  # with torch, which takes seconds

    forecast = Forecast(plan)
    # Joint teachers and students first: their levels are mistakes of theirs, not of the stores they read.
    return [_expected(forecast, job) for job in reversed(jobs)][::-1]


def _expected(forecast: Forecast, job: Job) -> Expected:
    size, transient = forecast.size(job), forecast.transient(job)
    if manifest_path(job.directory) is not None:
        return Expected(job, size, there=True, missing=Size(), transient=0)
    written, taken = _written(job.directory), _taken(job)
    missing = Size(max(0, size.bytes - written.bytes - taken.bytes), max(0, size.files - written.files - taken.files))
    return Expected(job, size, there=False, missing=missing, transient=transient, savings=forecast.savings(job))


def _taken(job: Job) -> Size:
    """Chunks that a store takes from those that it grows out of, as further names of the same files."""
    options = CacheOptions.model_validate(job.spec.get("cache", {}))
    arrays = [options.stored_name(name) for name in job.spec.get("arrays", ())]
    found: dict[str, int] = {}
    for directory in job.kin(STAGES[job.stage].unread):
        for record in (whole_manifest(directory) or {"files": []})["files"]:
            path = PurePath(record["path"])
            array, place = chunk_array(path), path.name.split(".")  # c, view, chunk, ...
            read = array is not None and array.name.removesuffix("_scale") in arrays
            if read and int(place[1]) < job.spec["views"]:
                found[record["path"]] = record["bytes"]
    new = [size for path, size in found.items() if not (job.directory / path).exists()]
    return Size(sum(new), len(new))


def _written(directory: Path) -> Size:
    """Bytes and files that an unfinished directory holds already."""
    size = Size()
    for folder, folders, files in os.walk(directory):
        held = sum((Path(folder) / name).lstat().st_size for name in files)
        size += Size(held, len(files) + len(folders))
    return size


def free_space(results: Path) -> Free:
    """Free space of the file system that `results` is on, or will be on."""
    folder = results.absolute()
    while not folder.exists():
        folder = folder.parent
    status = os.statvfs(folder)
    inodes = status.f_favail if status.f_files else None
    return Free(folder, status.f_bavail * status.f_frsize, inodes, status.f_frsize)


def forecast_table(plan: Plan) -> Iterator[str]:
    """A line for each artefact, for each stage, and in all."""
    expected = expect(plan)
    width = max(len(f"{each.job.stage}/{each.job.name}") for each in expected)
    yield f"{'':{width}}  {'size':>10}  {'files':>9}  state"
    for each in expected:
        state = "there" if each.there else "to be made"
        if each.transient:
            state += f", its checkpoints {readable(each.transient)} meanwhile"
        yield _line(f"{each.job.stage}/{each.job.name}", width, each.size, state)
    yield ""
    for stage in STAGES:
        members = [each for each in expected if each.job.stage == stage]
        if members:
            yield _line(stage, width, _total(each.size for each in members), _state(members))
    yield _line("all", width, _total(each.size for each in expected), _state(expected))
    yield ""
    free = free_space(plan.config.results)
    yield from demand_lines(expected, free)
    lacking = shortage(expected, free)
    if lacking is not None:
        yield f"warning: {lacking}"


def _line(name: str, width: int, size: Size, state: str) -> str:
    return f"{name:{width}}  {readable(size.bytes):>10}  {size.files:>9,}  {state}"


def _state(members: list[Expected]) -> str:
    left = sum(not each.there for each in members)
    size = readable(_total(each.missing for each in members).bytes)
    return f"{left} of {len(members)} to be made: {size}" if left else "all there"


def _total(sizes: Iterator[Size]) -> Size:
    return sum(sizes, Size())


def readable(count: int) -> str:
    """Bytes for people."""
    return readable_size(count, BINARY)


@dataclass(frozen=True)
class Demand:
    """What is needed of a file system: bytes that stay, in whole blocks, the largest transient ones, and inodes."""

    bytes: int
    transient: int
    inodes: int


def demand(expected: list[Expected], block: int) -> Demand:
    """The demand of all artefacts that are still to be made."""
    missing = _total(each.missing for each in expected)
    return Demand(missing.on_disk(block), max((each.transient for each in expected), default=0), missing.files)


def demand_lines(expected: list[Expected], free: Free) -> Iterator[str]:
    """What is still to be made against what is free."""
    left = sum(not each.there for each in expected)
    needed = demand(expected, free.block)
    inodes = "" if free.inodes is None else f" and {free.inodes:,} files"
    transient = f", and {readable(needed.transient)} for checkpoints of a training" if needed.transient else ""
    size = f"{readable(needed.bytes)} in {needed.inodes:,} files and folders"
    yield f"still to be made: {left} of {len(expected)}, {size}{transient}"
    yield f"free in {free.folder}: {readable(free.bytes)}{inodes}"


def shortage(expected: list[Expected], free: Free) -> str | None:
    """What there is too little of for all that is still to be made, and what to do about it; None: it fits."""
    needed = demand(expected, free.block)
    lacks = []
    if needed.bytes + needed.transient > free.bytes:
        lacks.append(f"lacks {readable(needed.bytes + needed.transient - free.bytes)} of space")
    if free.inodes is not None and needed.inodes > free.inodes:
        lacks.append(f"lacks {needed.inodes - free.inodes:,} inodes")
    if not lacks:
        return None
    saved = sum(each.savings for each in expected)
    less = f", such as label_embeddings: positives, which saves {readable(saved)}" if saved else ""
    return (
        f"results: {free.folder} {' and '.join(lacks)}: free some space, set `results` to another folder, or store less"
        f" (caches{less}; views)"
    )


def forecast_json(plan: Plan) -> Iterator[str]:
    """The whole table as JSON, in bytes."""
    expected = expect(plan)
    free = free_space(plan.config.results)
    artefacts = [
        {
            "stage": each.job.stage,
            "name": each.job.name,
            "key": each.job.key,
            "directory": str(each.job.directory),
            **asdict(each.size),
            "there": each.there,
            "missing_bytes": each.missing.bytes,
            "transient_bytes": each.transient,
            "savings_bytes": each.savings,
        }
        for each in expected
    ]
    needed = asdict(demand(expected, free.block))
    document = {"artefacts": artefacts, "needed": needed, "free": asdict(free) | {"folder": str(free.folder)}}
    yield json.dumps(document, indent=1)


def check_fit(plan: Plan, directories: Collection[Path]) -> Iterator[str]:
    """Say what is to be made against what is free.

    Args:
        plan: of everything.
        directories: artefacts that a run will make.

    Raises:
        UserError: that does not fit, or cannot be made at all.
    """
    expected = [each for each in expect(plan, finished=False) if each.job.directory in directories]
    free = free_space(plan.config.results)
    lines, lacking = list(demand_lines(expected, free)), shortage(expected, free)
    if lacking is not None:
        raise UserError(f"{lacking}; {'; '.join(lines)}; nothing was started, `python -m kd forecast` lists it")
    yield from lines
    yield from _memory_warning(plan)


def _memory_warning(plan: Plan) -> Iterator[str]:
    given = plan.config.memory.ram_gib
    have = main_memory() / 2**30
    if given > have:
        yield f"warning: memory.ram_gib: {given:g} for each job, but this machine has {have:.1f} GiB in all"
