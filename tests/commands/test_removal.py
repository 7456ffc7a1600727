"""`invalidate` and `gc`: what goes, what stays, and that nothing goes without --yes or while it is written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from kd.commands.gc import collect
from kd.commands.invalidate import invalidate
from kd.commands.planned import find_job
from kd.jobs.errors import UserError
from kd.jobs.lock import BeingWrittenError, writing
from kd.plan import Plan
from tests.commands.conftest import Edit, built, planned

Tiny = dict[str, Any]


def there(*plans: Plan) -> set[str]:
    jobs = [job for plan in plans for job in plan.jobs.values() if job.manifest.is_file()]
    return {f"{job.stage}/{job.name}" for job in jobs}


def invalidated(plan: Plan, name: str, *, only: bool = False, yes: bool = True) -> list[str]:
    return list(invalidate(plan, find_job(plan, name), only=only, yes=yes))


def test_invalidate__drops_all_that_was_made_from_it(config: Tiny) -> None:
    plan = built(config)
    before = there(plan)
    lines = invalidated(plan, "mnist5k", yes=False)
    assert there(plan) == before
    assert "would be removed; add --yes to do it" in "\n".join(lines)
    lines = invalidated(plan, "mnist5k")
    assert there(plan) == {
        "prepare_dataset/digits",
        "train_teacher/digits_resnet-seed0",
        "cache_embeddings/digits_resnet-on-digits-seed0",
        "distill_student/kd-for-digits-seed0",
    }
    assert "  distill_student/mlfd_l1-for-digits-seed0" in lines
    assert not list(Path(config["results"]).rglob("*.partial"))
    assert not (Path(config["results"]) / "prepare_dataset/mnist5k").exists()


def test_invalidate__also_what_other_configs_made_from_it(config: Tiny) -> None:
    built(config)
    config["recipes"]["student"] = config["recipes"]["network"] | {"lr": 0.01}
    config["students"]["kd"]["recipe"] = "student"
    other = built(config)
    config["students"]["kd"]["recipe"] = "fusion"
    lines = invalidated(planned(config), "digits_resnet-on-digits-seed0")
    assert sum("distill_student/kd-for-digits-seed0" in line for line in lines) == 2
    assert not find_job(other, "kd-for-digits-seed0").directory.exists()


def test_invalidate__only_the_one(config: Tiny) -> None:
    plan = built(config)
    before = there(plan)
    invalidated(plan, "mnist5k", only=True)
    assert before - there(plan) == {"prepare_dataset/mnist5k"}


def test_invalidate__takes_along_the_store_that_another_grew_from(config: Tiny) -> None:
    """Else the chunks that were not trusted would come back from there."""
    small = built(config)
    for joint in config["joint_teachers"].values():
        joint["views"] = 3
    config["students"]["kd"]["views"] = 3
    grown = built(config)
    name = "digits_resnet-on-mnist5k-seed0"
    before, after = (next(job for job in plan.jobs.values() if job.name == name) for plan in (small, grown))
    assert before.key != after.key
    list(invalidate(grown, after, only=True, yes=True))
    assert not before.directory.exists()
    assert not after.directory.exists()


def test_invalidate__refuses_what_is_not_there_or_being_written(config: Tiny) -> None:
    plan = planned(config)
    with pytest.raises(UserError, match="prepare_dataset/digits: nothing to invalidate"):
        invalidated(plan, "digits")
    built(config)
    before = there(plan)
    with writing(find_job(plan, "joint_l2-seed0").directory), pytest.raises(BeingWrittenError, match="joint_l2"):
        invalidated(plan, "digits")
    assert there(plan) == before


def test_gc__keeps_what_any_config_needs(config: Tiny) -> None:
    first = built(config)
    config["recipes"]["network"]["lr"] = 0.5
    second = built(config)
    results = Path(config["results"])
    for line in collect([first, second], yes=True):
        assert line == "0 B freed"
    old = {job.directory for job in first.jobs.values()} - {job.directory for job in second.jobs.values()}
    lines = list(collect([second], yes=False))
    assert {line.split(":")[0] for line in lines[:-1]} == {str(directory) for directory in old}
    assert all(directory.is_dir() for directory in old)
    list(collect([second], yes=True))
    assert not any(directory.exists() for directory in old)
    assert len(there(second)) == len(second.jobs)
    assert not list(results.rglob("*.partial"))


def test_gc__keeps_what_needed_artefacts_were_made_from(config: Tiny) -> None:
    """A student stays valid when its store is enlarged, so the smaller store still is its origin."""
    first = built(config)
    config["joint_teachers"]["joint_l3"] = {"level": "L3", "views": 2, "width": 8, "recipe": "fusion"}
    second = built(config)
    name = "digits_resnet-on-digits-seed0"
    assert find_job(first, name).directory != find_job(second, name).directory
    assert list(collect([second], yes=True)) == ["0 B freed"]
    assert find_job(first, name).manifest.is_file()


def test_gc__leaves_alone_what_is_being_written(config: Tiny) -> None:
    first = built(config)
    config["students"] = {}
    second = built(config)
    student = find_job(first, "kd-for-digits-seed0")
    with writing(student.directory):
        lines = list(collect([second], yes=True))
        assert student.manifest.is_file()
    assert any(f"{student.directory}: kept, is being written by" in line for line in lines)
    assert not find_job(first, "mlfd_l1-for-digits-seed0").directory.exists()


def test_gc__unfinished_leftovers_and_orphaned_logs(config: Tiny) -> None:
    plan = built(config)
    results = Path(config["results"])
    job = find_job(plan, "kd-for-digits-seed0")
    half = results / "train_teacher/other-seed0/0123456789abcdef"
    half.mkdir(parents=True)
    (half / ".checkpoint").write_text("x" * 2000)
    logs = results / "logs/train_teacher"
    logs.mkdir(parents=True)
    kept, orphan = logs / f"{job.name}-{job.key}.log", logs / "gone-seed0-0123456789abcdee.log"
    kept = results / "logs/distill_student" / kept.name
    kept.parent.mkdir()
    partial, fresh = job.directory / ".model.safetensors.partial", job.directory / "chunk.abc.partial"
    for path in (kept, orphan, partial, fresh):
        path.write_text("x")
    os.utime(partial, (0, 0))
    text = "\n".join(collect([plan], yes=False))
    assert f"{half}: 2.0 kB, unfinished" in text
    assert half.exists()
    list(collect([plan], yes=True))
    assert not any(path.exists() for path in (half, orphan, partial))
    assert kept.exists()
    assert fresh.exists()  # may be somebody's who is just writing


def test_gc__an_adopted_artefact_needs_its_source_no_more(config: Tiny, edit: Edit) -> None:
    from kd.commands.adopt import adopt

    built(config)
    edit("kd.data.views")
    plan = planned(config)
    list(adopt(plan, list(plan.jobs.values()), yes=True))
    list(collect([plan], yes=True))
    assert len(there(plan)) == len(plan.jobs)
    assert len(list(Path(config["results"]).glob("train_teacher/digits_resnet-seed0/*"))) == 1
