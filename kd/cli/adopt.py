"""`python -m kd adopt`: keep finished artefacts that differ from the wanted ones only in the code that made them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kd.artefacts.disk import disk_errors, share
from kd.artefacts.files import link_or_copy, remove, write_text
from kd.artefacts.job import JOB, Job, code_differences
from kd.artefacts.lock import LOCK, WRITER, writing
from kd.artefacts.manifest import job_record, publish_manifest, whole_manifest
from kd.artefacts.reading import check_plain
from kd.cli.records import user_name
from kd.cli.stored import Stored, stored_at, stored_in
from kd.jobs.run import JOB_LOG
from kd.planning.plan import Plan

STAGING = ".adopting"


def adopt(plan: Plan, jobs: list[Job], *, yes: bool) -> Iterator[str]:
    """Adopt what can be, upstream first, so that a chain is adopted as a whole.

    Args:
        plan: of the wanted artefacts.
        jobs: wanted; those that are there are left alone.
        yes: do it; otherwise only say what would be done.

    Raises:
        UserError: somebody is writing a wanted artefact.
    """
    adopted = without = 0
    for job in jobs:
        if stored_at(job.directory).manifest is not None:
            continue
        found = _candidate(plan, job)
        if found is None:
            without += 1
            continue
        adopted += 1
        differing = "; ".join(code_differences(_manifest(found)["code"], job.code)) or "only code upstream of it"
        yield f"{job.stage}/{job.name}: {found.key} -> {job.key} ({differing})"
        if yes:
            take_over(found, job)
    if without:
        yield f"{without} missing without a finished one of the same config: the workflow will make them"
    yield f"{adopted} adopted" if yes else f"{adopted} would be adopted; add --yes to do it"


def _manifest(found: Stored) -> dict[str, Any]:
    assert found.manifest is not None
    return found.manifest


def _candidate(plan: Plan, job: Job) -> Stored | None:
    """The newest finished and undamaged artefact that has all but the code in common with a job."""
    same = [
        each
        for each in stored_in(plan.config.results, job.stage, job.name)
        if each.manifest is not None and each.manifest["config_key"] == job.config_key
    ]
    newest_first = sorted(same, key=lambda each: -each.finished)
    return next((each for each in newest_first if whole_manifest(each.directory) is not None), None)


def take_over(found: Stored, job: Job) -> None:
    """Make the directory of a job from a finished artefact, by hard links where the file system has them.

    Raises:
        UserError: the directory is being written or holds links, or the disk cannot be written.
    """
    directory, manifest = job.directory, _manifest(found)
    share(directory.parents[2])
    with disk_errors(directory), writing(directory, wait=False):
        check_plain(directory)
        if stored_at(directory).manifest is not None:
            return
        _empty(directory)
        for record in manifest["files"]:
            link_or_copy(found.directory / record["path"], directory / STAGING / record["path"])
        write_text(directory / JOB, job.model_dump_json())
        for path in sorted((directory / STAGING).glob("*")):
            path.rename(directory / path.name)
        shutil.rmtree(directory / STAGING, ignore_errors=True)
        adopted = {
            "from": found.key,
            "when": time.strftime("%Y-%m-%d %H:%M:%S"),
            "by": user_name(),
            "code": list(code_differences(manifest["code"], job.code)),
            "before": manifest["adopted"],
        }
        publish_manifest(manifest | job_record(job) | {"adopted": adopted}, directory)


def _empty(directory: Path) -> None:
    """Drop what an unfinished attempt left."""
    for path in directory.iterdir():
        if path.name not in (LOCK, WRITER, JOB_LOG):
            remove(path)
