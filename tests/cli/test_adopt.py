"""`adopt` keeps what only code tells apart, whole chains at once, and records that it did."""

from __future__ import annotations

import os
from typing import Any

import pytest

from kd.artefacts.job import Job
from kd.artefacts.lock import BeingWrittenError, writing
from kd.artefacts.manifest import check_manifest, read_manifest
from kd.cli.adopt import adopt
from kd.planning.plan import Plan, find_job
from tests.cli.conftest import Edit, build, built, planned

Tiny = dict[str, Any]
STUDENT = "mlfd_l1-for-digits-seed0"
VIEWS = "kd.data.views"


def adopted(plan: Plan, *jobs: Job, yes: bool = True) -> list[str]:
    return list(adopt(plan, list(jobs or plan.jobs.values()), yes=yes))


def test_adopt__takes_a_chain_at_once(config: Tiny, edit: Edit) -> None:
    old = built(config)
    edit(VIEWS)
    plan = planned(config)
    changed = [job for job in plan.jobs.values() if not job.manifest.exists()]
    assert {job.stage for job in changed} == {
        "train_teacher",
        "cache_embeddings",
        "cache_targets",
        "train_joint_teacher",
        "distill_student",
        "train_baseline",
        "table",
        "figure",
    }
    lines = adopted(plan, yes=False)
    assert lines[-1] == f"{len(changed)} would be adopted; add --yes to do it"
    assert not any(job.directory.exists() for job in changed)
    assert adopted(plan)[-1] == f"{len(changed)} adopted"
    for job in plan.jobs.values():
        check_manifest(read_manifest(job), job, chunks=True)
    before, after = find_job(old, STUDENT), find_job(plan, STUDENT)
    manifest = read_manifest(after)
    assert manifest["adopted"]["from"] == before.key
    assert manifest["adopted"]["code"] == ["kd/data/views.py: changed"]
    assert manifest["upstream"]["targets"]["key"] == after.upstream["targets"].key
    assert manifest["code"] == after.code
    assert manifest["versions"] == read_manifest(before)["versions"]
    assert (after.directory / "content.txt").samefile(before.directory / "content.txt")
    assert not (after.directory / ".adopting").exists()
    assert adopted(plan) == ["0 adopted"]
    build(*plan.jobs.values())  # all is whole: nothing is made
    assert read_manifest(after)["adopted"]


def test_adopt__by_name(config: Tiny, edit: Edit) -> None:
    built(config)
    edit(VIEWS)
    plan = planned(config)
    job = find_job(plan, STUDENT)
    assert len(adopted(plan, job)) == 2
    assert job.manifest.is_file()
    assert not find_job(plan, "digits_resnet-seed0").manifest.exists()


def test_adopt__not_what_the_config_tells_apart(config: Tiny, edit: Edit) -> None:
    built(config)
    edit(VIEWS)
    config["recipes"]["network"]["lr"] = 0.5
    plan = planned(config)
    text = "\n".join(adopted(plan))
    assert "train_teacher/" not in text
    assert "distill_student/" not in text
    assert "cache_embeddings/" not in text  # their teachers are others
    assert "missing without a finished one of the same config" in text


def test_adopt__the_newest_that_is_whole(config: Tiny, edit: Edit) -> None:
    first = built(config)
    edit(VIEWS, version=1)
    second = built(config)
    edit(VIEWS, version=2)
    plan = planned(config)
    name = "digits_resnet-seed0"
    times = (find_job(first, name), 1_000_000_000), (find_job(second, name), 2_000_000_000)
    for job, time in times:
        os.utime(job.manifest, (time, time))
    wanted = find_job(plan, name)
    assert adopted(plan, wanted, yes=False)[0].startswith(f"train_teacher/{name}: {times[1][0].key} -> {wanted.key}")
    (times[1][0].directory / "content.txt").write_text("mada\n")
    assert adopted(plan, wanted, yes=False)[0].startswith(f"train_teacher/{name}: {times[0][0].key} -> {wanted.key}")


def test_adopt__copies_where_links_cannot_be(config: Tiny, edit: Edit, monkeypatch: pytest.MonkeyPatch) -> None:
    built(config)
    edit(VIEWS)
    plan = planned(config)
    job = find_job(plan, STUDENT)

    def link(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    adopted(plan, job)
    assert (job.directory / "folder/more.txt").stat().st_nlink == 1
    check_manifest(read_manifest(job), job)


def test_adopt__drops_what_an_unfinished_attempt_left(config: Tiny, edit: Edit) -> None:
    built(config)
    edit(VIEWS)
    plan = planned(config)
    job = find_job(plan, STUDENT)
    (job.directory / "half.zarr").mkdir(parents=True)
    (job.directory / ".checkpoint").write_text("x")
    with writing(job.directory), pytest.raises(BeingWrittenError):
        adopted(plan, job)
    adopted(plan, job)
    assert not (job.directory / "half.zarr").exists()
    assert not (job.directory / ".checkpoint").exists()
