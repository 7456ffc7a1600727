"""`python -m kd forecast`: what a run will weigh, before it is started, and whether that fits.

`python -m kd.cli.forecast` is preflight, which the Snakefile runs before it starts any job: a process of its own, since
it may have to build networks, and the workflow's own process never loads torch.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path, PurePath
from stat import S_ISREG
from typing import TYPE_CHECKING

from kd.artefacts.disk import Free, Size, free_space
from kd.artefacts.files import chunk_array
from kd.artefacts.job import Job
from kd.artefacts.manifest import manifest_path, whole_manifest
from kd.cli.stored import BINARY, readable_size
from kd.common.errors import UserError
from kd.config.load import load_config
from kd.embeddings.options import CacheOptions
from kd.jobs.environment import main_memory
from kd.jobs.run import user_errors
from kd.planning.plan import Plan
from kd.stages.registry import STAGES, stages_of

if TYPE_CHECKING:
    from kd.planning.forecast import Forecast

readable = partial(readable_size, units=BINARY)


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
    savings: int


def expect(plan: Plan, *, finished: bool = True) -> list[Expected]:
    """Artefacts of a plan but tables and figures, which are small; upstream first, `finished` ones only if asked for.

    Where datasets are `to_be_fetched`, nothing is known but what is downloaded.

    Raises:
        UserError: the plan asks for what cannot be, such as a level that an architecture does not have.
    """
    jobs = [job for job in plan.run().jobs.values() if finished or manifest_path(job.directory) is None]
    if to_be_fetched(plan):
        jobs = [job for job in jobs if STAGES[job.stage].work == "network"]
    if not jobs:
        return []
    from kd.planning.forecast import Forecast  # with torch, which takes seconds

    forecast = Forecast(plan)
    # Joint teachers and students first: their levels are mistakes of theirs, not of the stores they read.
    return [_expected(forecast, job) for job in reversed(jobs)][::-1]


def to_be_fetched(plan: Plan) -> list[str]:
    """A line for each dataset that is downloaded and is not packed yet, so that its images are not known."""
    lines = []
    for job in plan.stage("prepare_dataset"):
        if "archives" in job.upstream and manifest_path(job.directory) is None:
            archives = plan.jobs[job.upstream["archives"].directory].spec
            lines.append(
                f"datasets.{job.name}: is not here yet; the target `prefetch` downloads"
                f" {readable(sum(archives['bytes'].values()))} and packs it, or get"
                f" {', '.join(archives['addresses'].values())}, unpack it and name its folder in source.root"
            )
    return lines


def _expected(forecast: Forecast, job: Job) -> Expected:
    transient, size = forecast.transient(job), forecast.size(job)
    if manifest_path(job.directory) is not None:
        return Expected(job, size, there=True, missing=Size(), transient=0, savings=0)
    missing = size - _written(job.directory) - _taken(job)
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
    found = [path.lstat() for path in directory.rglob("*")]
    return Size(sum(each.st_size for each in found if S_ISREG(each.st_mode)), len(found))


def forecast_table(plan: Plan) -> Iterator[str]:
    """A line for each artefact, for each stage, and in all."""
    yield from to_be_fetched(plan)
    expected = expect(plan)
    width = max(len(f"{each.job.stage}/{each.job.name}") for each in expected)
    yield f"{'':{width}}  {'size':>10}  {'files':>9}  state"
    for each in expected:
        state = "there" if each.there else "to be made"
        if each.transient:
            state += f", its checkpoints {readable(each.transient)} meanwhile"
        yield _line(f"{each.job.stage}/{each.job.name}", width, each.size, state)
    yield ""
    groups = {stage: [each for each in expected if each.job.stage == stage] for stage in STAGES} | {"all": expected}
    for name, members in groups.items():
        if members:
            yield _line(name, width, _total(each.size for each in members), _state(members))
    yield ""
    lines, lacking = _balance(expected, free_space(plan.config.results))
    yield from lines
    if lacking:
        yield f"warning: {lacking}"


def _line(name: str, width: int, size: Size, state: str) -> str:
    return f"{name:{width}}  {readable(size.bytes):>10}  {size.files:>9,}  {state}"


def _state(members: list[Expected]) -> str:
    left = sum(not each.there for each in members)
    size = readable(_total(each.missing for each in members).bytes)
    return f"{left} of {len(members)} to be made: {size}" if left else "all there"


def _total(sizes: Iterable[Size]) -> Size:
    return sum(sizes, Size())


def _demand(expected: list[Expected], block: int) -> dict[str, int]:
    """What is still needed of a file system: bytes that stay, in whole blocks, the largest transient ones, inodes."""
    missing = _total(each.missing for each in expected)
    transient = max((each.transient for each in expected), default=0)
    return {"bytes": missing.on_disk(block), "transient": transient, "inodes": missing.files}


def _balance(expected: list[Expected], free: Free) -> tuple[list[str], str]:
    """Lines with what is still to be made and what is free; and what there is too little of, with what to do, or ""."""
    needed, inodes, transient = _demand(expected, free.block), "", ""
    if free.inodes is not None:
        inodes = f" and {free.inodes:,} files"
    if needed["transient"]:
        transient = f", and {readable(needed['transient'])} for checkpoints of a training"
    size = f"{readable(needed['bytes'])} in {needed['inodes']:,} files and folders"
    lines = [
        f"still to be made: {sum(not each.there for each in expected)} of {len(expected)}, {size}{transient}",
        f"free in {free.folder}: {readable(free.bytes)}{inodes}",
    ]
    lacks = []
    if needed["bytes"] + needed["transient"] > free.bytes:
        lacks.append(f"lacks {readable(needed['bytes'] + needed['transient'] - free.bytes)} of space")
    if free.inodes is not None and needed["inodes"] > free.inodes:
        lacks.append(f"lacks {needed['inodes'] - free.inodes:,} inodes")
    saved = sum(each.savings for each in expected)
    less = f", such as label_embeddings: positives, which saves {readable(saved)}" if saved else ""
    advice = f"free some space, set `results` to another folder, or store less (caches{less}; views)"
    return lines, f"results: {free.folder} {' and '.join(lacks)}: {advice}" if lacks else ""


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
    document = {"artefacts": artefacts, "needed": _demand(expected, free.block), "free": asdict(free)}
    yield json.dumps(document, indent=1, default=str)


def check_fit(plan: Plan, directories: Collection[Path]) -> Iterator[str]:
    """Say what is free, against what is to be made by a run that makes some of the artefacts of a plan.

    Raises:
        UserError: that does not fit, or cannot be made at all.
    """
    made = {plan.jobs[directory].stage for directory in directories}
    absent = to_be_fetched(plan)
    if absent and made.difference(stages_of("network", "decoding")):
        raise UserError("\n".join(absent))
    expected = [each for each in expect(plan, finished=False) if each.job.directory in directories]
    lines, lacking = _balance(expected, free_space(plan.config.results))
    if lacking:
        raise UserError(f"{lacking}; {'; '.join(lines)}; nothing was started, `python -m kd forecast` lists it")
    yield from lines
    given, have = plan.config.memory.ram_gib, main_memory() / 2**30
    if given > have:
        yield f"warning: memory.ram_gib: {given:g} for each job, but this machine has {have:.1f} GiB in all"


if __name__ == "__main__":
    with user_errors():
        request = json.load(sys.stdin)
        plan = Plan(load_config(request["config"]))
        directories = {Path(each) for each in request["directories"]}
        wanted = [job.spec["architecture"] for job in plan.stage("fetch_weights") if job.directory in directories]
        if wanted:  # first, since it takes no time: where there is no network, nobody waits for torch to hear of it
            from kd.models.hub import check_network

            check_network(wanted)
        for line in check_fit(plan, directories):
            sys.stdout.write(f"{line}\n")
