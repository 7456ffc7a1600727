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
from kd.cli.stored import stored_at, stored_in
from kd.jobs.run import JOB_LOG
from kd.planning.plan import Plan

STAGING = ".adopting"


def adopt(plan: Plan, jobs: list[Job], *, yes: bool) -> Iterator[str]:
    """Adopt what can be of the wanted jobs that are not there, upstream first, so that a chain is adopted as a whole.

    Without `yes`, nothing is done, and only said what would be.

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
        directory, manifest = found
        differing = "; ".join(code_differences(manifest["code"], job.code)) or "only code upstream of it"
        yield f"{job.stage}/{job.name}: {directory.name} -> {job.key} ({differing})"
        if yes:
            take_over(directory, manifest, job)
    if without:
        yield f"{without} missing without a finished one of the same config: the workflow will make them"
    yield f"{adopted} adopted" if yes else f"{adopted} would be adopted; add --yes to do it"


def _candidate(plan: Plan, job: Job) -> tuple[Path, dict[str, Any]] | None:
    """The newest undamaged artefact that has all but the code in common with a job: its directory and manifest."""
    same = [
        each
        for each in stored_in(plan.config.results, job.stage, job.name)
        if each.manifest is not None and each.manifest["config_key"] == job.config_key
    ]
    for each in sorted(same, key=lambda each: -each.finished):
        manifest = whole_manifest(each.directory)
        if manifest is not None:
            return each.directory, manifest
    return None


def take_over(source: Path, manifest: dict[str, Any], job: Job) -> None:
    """Make the directory of a job from a finished artefact, by hard links where the file system has them.

    Raises:
        UserError: the directory is being written or holds links, or the disk cannot be written.
    """
    directory = job.directory
    share(directory.parents[2])
    with disk_errors(directory), writing(directory, wait=False):
        check_plain(directory)
        if stored_at(directory).manifest is not None:
            return
        for path in directory.iterdir():  # what an unfinished attempt left
            if path.name not in (LOCK, WRITER, JOB_LOG):
                remove(path)
        for record in manifest["files"]:
            link_or_copy(source / record["path"], directory / STAGING / record["path"])
        write_text(directory / JOB, job.model_dump_json())
        for path in sorted((directory / STAGING).glob("*")):
            path.rename(directory / path.name)
        shutil.rmtree(directory / STAGING, ignore_errors=True)
        adopted = {
            "from": source.name,
            "when": time.strftime("%Y-%m-%d %H:%M:%S"),
            "by": user_name(),
            "code": list(code_differences(manifest["code"], job.code)),
            "before": manifest["adopted"],
        }
        publish_manifest(manifest | job_record(job) | {"adopted": adopted}, directory)
