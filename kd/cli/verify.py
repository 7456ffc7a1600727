"""`python -m kd verify`: are finished artefacts whole, and do stores hold what their teachers say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from kd.artefacts.job import Job
from kd.artefacts.manifest import finished_manifest, job_of, manifest_path
from kd.common.errors import UserError
from kd.planning.plan import Plan, find_job
from kd.verification.artefacts import find_problems


def verify(plan: Plan, names: Sequence[str], rows: int) -> Iterator[str]:
    """A line for each artefact that is as it should be, and for each thing that is wrong with another.

    `names` are artefacts of the config, or directories of any; none: all of the config that are finished. For `rows`
    see `kd.verification.artefacts.find_problems`.

    Raises:
        UserError: at the end, if anything was wrong.
    """
    jobs = [_named(plan, name) for name in names] or [
        job for job in plan.jobs.values() if manifest_path(job.directory) is not None
    ]
    bad = 0
    for job in jobs:
        title = f"{job.stage}/{job.name}/{job.key}"
        problems = list(find_problems(job, rows))
        bad += bool(problems)
        yield from [f"WRONG {title}: {problem}" for problem in problems] or [f"ok    {title}"]
    if bad:
        raise UserError(f"{bad} of {len(jobs)} artefacts are not what they should be; delete them and run again")
    left = "" if names else f", {len(plan.jobs) - len(jobs)} of the config are not finished"
    yield f"{len(jobs)} verified{left}"


def _named(plan: Plan, name: str) -> Job:
    directory = Path(name)
    if not directory.is_dir():
        return find_job(plan, name)
    directory = directory.resolve()
    wanted = {job.directory.resolve(): job for job in plan.jobs.values()}
    return wanted.get(directory) or job_of(finished_manifest(directory), directory)
