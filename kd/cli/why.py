"""`python -m kd why NAME`: is it there, and if not, in what does it differ from what is."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from kd.artefacts.job import Job, code_differences, job_differences, spec_differences, upstream_differences
from kd.artefacts.lock import current_writer
from kd.artefacts.manifest import library_versions, read_manifest
from kd.cli.status import last_line
from kd.cli.stored import Stored, readable_time, stored_at, stored_in
from kd.common.errors import UserError, shown
from kd.jobs.run import JOB_LOG
from kd.planning.plan import Plan


def why(plan: Plan, job: Job) -> Iterator[str]:
    """Say where a wanted artefact stands; if it is not there, compare it with the nearest that is."""
    yield f"{job.stage}/{job.name}"
    yield f"wanted: {job.directory}"
    there = stored_at(job.directory)
    writer = current_writer(job.directory)
    if there.manifest is not None:
        yield from _finished(job, there)
        return
    if writer is not None:
        yield f"in progress: being written by {writer}"
        yield from _last_words(job)
        return
    if there.record is not None:
        yield "unfinished: it was begun, and nobody is at it now; run the workflow and it goes on"
        yield from _last_words(job)
    else:
        yield "not there"
    nearest = _nearest(plan, job)
    if nearest is None:
        yield f"nothing to compare it with: there is no other {job.stage} of the name {job.name}"
        return
    assert nearest.record is not None
    state = f"finished {readable_time(nearest.finished)}" if nearest.manifest else "unfinished"
    yield f"compared with {nearest.directory} ({state}):"
    yield from _compared(plan, nearest.record, job, told=set())
    if nearest.manifest is not None:
        yield from _versions(nearest.manifest, job)
        if nearest.manifest["config_key"] == job.config_key:
            yield f"only code differs: `python -m kd adopt {job.stage}/{job.name}` would take it as it is"


def _finished(job: Job, there: Stored) -> Iterator[str]:
    manifest = there.manifest
    assert manifest is not None
    try:
        read_manifest(job)
    except UserError as error:
        yield f"damaged: {error}"
        return
    yield f"finished {readable_time(there.finished)} on {shown(manifest['host'])}, in {manifest['seconds']} s"
    if manifest["adopted"]:
        yield f"adopted from {manifest['adopted']['from']} by {shown(manifest['adopted']['by'])}"
    yield from _versions(manifest, job)


def _versions(manifest: dict[str, Any], job: Job) -> Iterator[str]:
    found, now = manifest["versions"], library_versions(job.code)
    differing = [f"{name} {shown(found.get(name))} -> {now[name]}" for name in now if found.get(name) != now[name]]
    if differing:
        yield f"note: made with other versions, which are in no key: {', '.join(differing)}"


def _last_words(job: Job) -> Iterator[str]:
    path = job.directory / JOB_LOG
    last = last_line(path)
    if last:
        yield f"last line of {path}: {last}"


def _nearest(plan: Plan, job: Job) -> Stored | None:
    """Artefacts of the same stage and name: finished ones first, then by fewest differences, then the newest."""
    others = [
        each
        for each in stored_in(plan.config.results, job.stage, job.name)
        if each.key != job.key and each.record is not None
    ]
    if not others:
        return None
    return min(
        others,
        key=lambda each: (each.manifest is None, len(job_differences(each.record or {}, job)), -each.finished),
    )


def _compared(
    plan: Plan, found: dict[str, Any], job: Job, *, told: set[str], unread: Collection[str] = (), indent: str = "  "
) -> Iterator[str]:
    """Spec, code, and each upstream that differs between a record and a wanted job, with the reason why, indented.

    `told` has the keys of wanted upstreams that were explained before; `unread` fields of specs do not matter.
    """
    read = {name: value for name, value in found["spec"].items() if name not in unread}
    wanted = {name: value for name, value in job.spec.items() if name not in unread}
    for text in spec_differences(read, wanted):
        yield f"{indent}{text}"
    for text in code_differences(found["code"], job.code):
        yield f"{indent}{text}"
    for role, text in upstream_differences(found["upstream"], job).items():
        if role not in found["upstream"] or role not in job.upstream:
            yield f"{indent}{text}"
            continue
        up, before = job.upstream[role], found["upstream"][role]
        yield f"{indent}{shown(role)} is another: {before['stage']}/{before['name']}/{before['key']} -> {up.key}"
        inner = f"{indent}  "
        if up.key in told:
            yield f"{inner}as above"
            continue
        told.add(up.key)
        source = stored_at(plan.config.results / before["stage"] / before["name"] / before["key"]).record
        if source is None:
            yield f"{inner}the one before is no longer there to compare it with"
        else:
            upstream = plan.jobs[up.directory]
            yield from _compared(plan, source, upstream, told=told, unread=up.unread, indent=inner)
