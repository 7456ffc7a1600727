"""`python -m kd invalidate NAME`: drop an artefact and everything that was made from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

from kd.artefacts.job import Job
from kd.artefacts.lock import BeingWrittenError, current_writer, remove_directories
from kd.cli.records import affected
from kd.cli.stored import Stored, disk_usage, readable_size, stored_in
from kd.common.errors import UserError
from kd.planning.plan import Plan
from kd.stages.registry import STAGES


def invalidate(plan: Plan, job: Job, *, only: bool, yes: bool) -> Iterator[str]:
    """Drop a wanted artefact with all that was made from it, also for other configs on the same results folder.

    With a store go those that differ only in arrays and views, since one takes the chunks of another. With `only`, what
    was made from it stays; without `yes`, nothing is done, and only said what would be.

    Raises:
        UserError: there is no such artefact, or one of those that go is being written.
    """
    everything = list(stored_in(plan.config.results))
    kin = {job.directory, *job.kin(STAGES[job.stage].unread)}
    first = [each for each in everything if each.directory in kin]
    if job.directory not in [each.directory for each in first]:
        raise UserError(f"{job.stage}/{job.name}: nothing to invalidate, {job.directory} is not there")
    going = first if only else made_from(first, everything)
    wanted_by = list(affected(plan.config.results, {each.title for each in going}))
    for each in going:
        writer = current_writer(each.directory)
        if writer is not None:
            raise BeingWrittenError(f"{each.directory}: is being written by {writer}; stop that first")
        yield f"{each.title}: {readable_size(disk_usage(each.directory))}"
    yield from (f"wanted by the run {each}" for each in wanted_by)
    if yes:
        remove(going[::-1])  # at no time is there something whose origin is gone
    gone = {each.directory for each in going}
    again = [f"{job.stage}/{job.name}" for job in plan.jobs.values() if job.directory in gone]
    yield f"{len(going)} removed" if yes else f"{len(going)} would be removed; add --yes to do it"
    yield f"{len(again)} of them are rebuilt by the next run of this config:"
    yield from (f"  {name}" for name in again)


def made_from(first: list[Stored], everything: list[Stored]) -> list[Stored]:
    """Artefacts and all that was made or adopted from them, upstream first."""
    going = [*first]
    for origin in going:
        for each in everything:
            if each not in going and origin.key in {*each.upstream_keys, each.adopted_key}:
                going.append(each)
    return going


def remove(artefacts: Sequence[Stored]) -> None:
    """Remove artefacts, all or none of them, and the folder of a name if it was its last.

    Raises:
        BeingWrittenError: another process holds one of them.
    """
    remove_directories([each.directory for each in artefacts])
    for each in artefacts:
        with suppress(OSError):
            each.directory.parent.rmdir()
