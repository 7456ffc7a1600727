"""Which artefacts a config asks for, and which of them a change touches."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from kd.common.errors import UserError
from kd.config.load import load_config
from kd.planning.plan import Plan

Tiny = dict[str, Any]


def keys(config: Tiny) -> dict[str, str]:
    """stage/name -> key, of all but tables and figures."""
    return {f"{job.stage}/{job.name}": job.key for job in Plan(load_config(config)).run().jobs.values()}


def changed(before: Tiny, change: Callable[[Tiny], Any]) -> set[str]:
    """Artefacts that are to be made after a change and are not there yet."""
    after = copy.deepcopy(before)
    change(after)
    old, new = keys(before), keys(after)
    return {name for name, key in new.items() if old.get(name) != key}


def stages(names: set[str]) -> set[str]:
    return {name.split("/")[0] for name in names}


def test_plan__builds_what_the_config_names(tiny: Tiny) -> None:
    names = set(keys(tiny))
    assert names == {
        "prepare_dataset/digits",
        "prepare_dataset/mnist5k",
        "train_teacher/digits_resnet-seed0",
        "train_teacher/mnist5k_byobnet-seed0",
        "cache_embeddings/digits_resnet-on-digits-seed0",
        "cache_embeddings/digits_resnet-on-mnist5k-seed0",
        "cache_embeddings/mnist5k_byobnet-on-digits-seed0",
        "cache_embeddings/mnist5k_byobnet-on-mnist5k-seed0",
        "train_joint_teacher/joint_l1-for-digits-seed0",
        "train_joint_teacher/joint_l1-for-mnist5k-seed0",
        "train_joint_teacher/joint_l2-seed0",
        "cache_targets/joint_l1-on-digits-seed0",
        "cache_targets/joint_l2-on-digits-seed0",
        "distill_student/mlfd_l1-for-digits-seed0",
        "distill_student/mlfd_l2-for-digits-seed0",
        "distill_student/kd-for-digits-seed0",
        "train_baseline/joint_baseline-seed0",
    }
    rows = {(row.method, row.dataset, row.level) for row in Plan(load_config(tiny)).rows}
    assert ("individual", "digits", "") in rows
    assert ("student", "digits", "L2") in rows
    assert ("single_dataset_kd", "digits", "L1") in rows
    assert ("joint_baseline", "mnist5k", "") in rows


def test_plan__student_options_touch_students_only(tiny: Tiny) -> None:
    def change(config: Tiny) -> None:
        config["recipes"]["student"] = config["recipes"]["network"] | {"lr": 0.5}
        config["students"]["mlfd_l2"]["recipe"] = "student"

    assert changed(tiny, change) == {"distill_student/mlfd_l2-for-digits-seed0"}


def test_plan__joint_width_touches_it_and_its_students(tiny: Tiny) -> None:
    touched = changed(tiny, lambda config: config["joint_teachers"]["joint_l2"].update(width=8))
    assert touched == {
        "train_joint_teacher/joint_l2-seed0",
        "cache_targets/joint_l2-on-digits-seed0",
        "distill_student/mlfd_l2-for-digits-seed0",
    }


def test_plan__swapped_values_are_noticed(tiny: Tiny) -> None:
    tiny["recipes"]["network"].update(lr=0.003, weight_decay=0.001)
    touched = changed(tiny, lambda config: config["recipes"]["network"].update(lr=0.001, weight_decay=0.003))
    assert "train_teacher/digits_resnet-seed0" in touched


def test_plan__a_new_seed_adds_and_touches_nothing_else(tiny: Tiny) -> None:
    touched = changed(tiny, lambda config: config.update(seeds=[0, 3]))
    assert all(name.endswith("-seed3") for name in touched)
    assert len(touched) == len(keys(tiny)) - 2


def test_plan__another_level_enlarges_the_cache_only(tiny: Tiny) -> None:
    """What was trained on the levels that were there stays valid."""

    def change(config: Tiny) -> None:
        config["joint_teachers"]["joint_l3"] = {"level": "L3", "views": 2, "width": 8, "recipe": "fusion"}

    touched = changed(tiny, change)
    assert stages(touched) == {"cache_embeddings", "train_joint_teacher"}
    assert {name for name in touched if "joint_teacher" in name} == {
        "train_joint_teacher/joint_l3-for-digits-seed0",
        "train_joint_teacher/joint_l3-for-mnist5k-seed0",
    }


def test_plan__views_none_means_no_augmentation_for_anybody(tiny: Tiny) -> None:
    """Else students would see other images than their targets were made from."""
    tiny["joint_teachers"]["joint_l1"]["views"] = "none"
    plan = Plan(load_config(tiny))
    by_name = {job.name: job for job in plan.jobs.values()}
    for name, count in (("joint_l1-for-digits-seed0", 2), ("mlfd_l1-for-digits-seed0", 1)):
        job = by_name[name]
        stores = [plan.jobs[up.directory] for up in job.upstream.values() if up.stage.startswith("cache_")]
        assert len(stores) == count
        assert job.spec["views"] == 1
        assert job.spec["recipe"]["augmentation"] is None
        assert all(store.spec["augmentation"] is None for store in stores)


def test_plan__live_views_need_no_cache(tiny: Tiny) -> None:
    """Live teachers are upstream themselves, and the code that runs them counts only there."""
    for joint in tiny["joint_teachers"].values():
        joint["views"] = "live"
    tiny["students"]["kd"]["views"] = "live"
    plan = Plan(load_config(tiny))
    assert not plan.stage("cache_embeddings")
    assert not plan.stage("cache_targets")
    by_name = {job.name: job for job in plan.jobs.values()}
    student, joint = by_name["mlfd_l1-for-digits-seed0"], by_name["joint_l1-for-digits-seed0"]
    assert set(student.upstream) == {"dataset", "joint_teacher", "teacher:digits_resnet", "teacher:mnist5k_byobnet"}
    assert student.upstream["joint_teacher"].key == joint.key
    assert student.spec["views"] is joint.spec["views"] is None
    assert "kd.training.live_teachers" in student.code
    assert "kd.training.live_teachers" not in by_name["digits_resnet-seed0"].code


def test_plan__a_student_may_have_views_and_precision_of_its_own(tiny: Tiny) -> None:
    tiny["caches"] = {"small": {"dtype": "int8"}}
    tiny["students"]["mlfd_l2"] |= {"views": 4, "cache": "small"}
    plan = Plan(load_config(tiny))
    (targets,) = [job for job in plan.stage("cache_targets") if job.name == "joint_l2-on-digits-seed0"]
    assert (targets.spec["views"], targets.spec["cache"]["dtype"]) == (4, "int8")
    behind = [plan.jobs[up.directory] for up in targets.upstream.values() if up.stage == "cache_embeddings"]
    assert [(job.spec["views"], job.spec["cache"]["dtype"]) for job in behind] == [(4, "int8")] * 2
    joint = plan.jobs[targets.upstream["joint_teacher"].directory]
    own = [plan.jobs[up.directory] for up in joint.upstream.values() if up.stage == "cache_embeddings"]
    assert {job.spec["cache"]["dtype"] for job in own} == {"float16"}


def test_plan__students_see_the_views_that_are_cached(tiny: Tiny) -> None:
    plan = Plan(load_config(tiny))
    for job in plan.stage("distill_student") + plan.stage("cache_targets") + plan.stage("train_joint_teacher"):
        for up in job.upstream.values():
            if up.stage.startswith("cache_"):
                store = plan.jobs[up.directory]
                seen = job.spec.get("recipe", job.spec)
                assert store.spec["augmentation"] == seen["augmentation"]
                assert store.spec["views"] >= job.spec["views"]
                assert store.spec["seed"] == job.spec["seed"]


def test_plan__tables_and_figures_are_not_in_any_key(tiny: Tiny) -> None:
    assert changed(tiny, lambda config: config.update(reports={"title": "other"}, experiment="other")) == set()


def test_plan__dataset_content_touches_all_that_saw_it(tiny: Tiny) -> None:
    touched = changed(tiny, lambda config: config["datasets"]["mnist5k"]["split"].update(seed=1))
    assert "prepare_dataset/digits" not in touched
    assert "train_teacher/digits_resnet-seed0" not in touched
    assert "train_teacher/mnist5k_byobnet-seed0" in touched
    assert "cache_embeddings/digits_resnet-on-mnist5k-seed0" in touched


def test_plan__one_row_of_the_tables_for_two_students_is_a_mistake(tiny: Tiny) -> None:
    hot = {"distiller": {"name": "mlfd", "temperature": 3}}
    tiny["students"]["again"] = tiny["students"]["mlfd_l1"] | hot
    with pytest.raises(UserError, match="give one of them another `experiment`"):
        Plan(load_config(tiny))
    tiny["students"]["again"]["experiment"] = "hot"
    experiments = {(row.experiment, row.method) for row in Plan(load_config(tiny)).rows}
    assert {("hot", "student"), ("hot", "individual"), ("tiny", "student")} <= experiments


def test_plan__the_individual_row_is_the_teacher_that_students_of_the_experiment_have(tiny: Tiny) -> None:
    tiny["teachers"]["second"] = tiny["teachers"]["digits_resnet"] | {"model": "byobnet"}
    tiny["joint_teachers"] = {name: each | {"teachers": ["second"]} for name, each in tiny["joint_teachers"].items()}
    tiny["students"]["vanilla"] = tiny["students"]["kd"] | {"level": None, "distiller": {"name": "vanilla"}}
    named = {"teacher": {"digits": "second"}}

    def individual() -> dict[str, str]:
        rows = Plan(load_config(tiny)).rows
        return {row.experiment: row.job.name for row in rows if (row.method, row.dataset) == ("individual", "digits")}

    assert individual() == {"tiny": "digits_resnet-seed0"}
    tiny["students"]["kd"] |= named
    with pytest.raises(UserError, match=r"students\.vanilla\.teacher: .*'digits_resnet'.*'second' for students\.kd of"):
        individual()
    tiny["students"] = dict(reversed(tiny["students"].items()))
    with pytest.raises(UserError, match=r"students\.kd\.teacher: .*'second'.*'digits_resnet' for students\.vanilla of"):
        individual()
    tiny["students"]["kd"]["experiment"] = "of_the_second"
    assert individual() == {"tiny": "digits_resnet-seed0", "of_the_second": "second-seed0"}
    del tiny["students"]["kd"]["experiment"]
    tiny["students"]["vanilla"] |= named
    assert individual() == {"tiny": "second-seed0"}


def test_plan__vanilla_is_one_row_whoever_its_teacher_is(tiny: Tiny) -> None:
    tiny["students"]["plain"] = tiny["students"]["mlfd_l2"] | {"distiller": {"name": "vanilla"}}
    (row,) = (row for row in Plan(load_config(tiny)).rows if row.job.name.startswith("plain"))
    assert (row.method, row.level) == ("vanilla", "")


def test_plan__values_of_a_sweep_are_told_exactly(tiny: Tiny) -> None:
    values = [0.1, 10, 1000, 1000000, 1000001, 1 / 3]
    tiny["students"]["kd"] |= {"level": None, "distiller": {"name": "kd"}, "sweep": {"temperature": values}}
    variants = [row.variant for row in Plan(load_config(tiny)).rows if row.method == "kd"]
    assert variants == [
        "",
        "temperature=0.1",
        "temperature=10",
        "temperature=1000",
        "temperature=1e+06",
        "temperature=1000001.0",
        "temperature=0.3333333333333333",
    ]


def test_plan__timms_version_counts_for_its_weights_only(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny["models"]["resnet"]["weights"] = "pretrained"
    before = Plan(load_config(tiny))
    monkeypatch.setattr("kd.planning.plan.version", lambda _: "0.0.0")
    after = Plan(load_config(tiny))
    same = {job.name for job in before.jobs.values()} - {
        job.name for job in after.jobs.values() if job.directory not in before.jobs
    }
    assert same == {
        "digits",
        "mnist5k",
        "mnist5k_byobnet-seed0",
        "mnist5k_byobnet-on-digits-seed0",
        "mnist5k_byobnet-on-mnist5k-seed0",
    }
    teacher = next(job for job in after.stage("train_teacher") if job.name == "digits_resnet-seed0")
    assert teacher.spec["model"]["registry"] == "timm==0.0.0"


def test_plan__numbers_that_are_not_used_change_no_key(tiny: Tiny) -> None:
    assert changed(tiny, lambda config: config["recipes"]["network"].update(momentum=0.5)) == set()
    tiny["recipes"]["network"].update(optimizer="sgd", schedule="constant")
    assert changed(tiny, lambda config: config["recipes"]["network"].update(warmup=0.3)) == set()
    assert changed(tiny, lambda config: config["recipes"]["network"].update(momentum=0.5))


def test_plan__a_missing_source_names_the_dataset(tiny: Tiny) -> None:
    tiny["datasets"]["digits"]["source"] = {"type": "image_folder", "root": "/nowhere"}
    with pytest.raises(UserError, match=r"datasets\.digits: source\.root: /nowhere is not a folder"):
        Plan(load_config(tiny))


def test_plan__is_the_same_from_the_config_that_rules_hand_on(tiny: Tiny) -> None:
    """Tables and figures get the validated config as JSON, with defaults filled in."""
    tiny["teachers"] = dict(reversed(tiny["teachers"].items()))  # not in alphabetical order
    config = load_config(tiny)
    again = load_config(json.loads(json.dumps(config.model_dump(mode="json"))))
    assert list(Plan(again).jobs) == list(Plan(config).jobs)


def test_plan__a_third_dataset_costs_one_teacher_and_five_stores(tiny: Tiny) -> None:
    """Its own row and column, and what fuses or learns from all teachers."""
    tiny["joint_teachers"]["joint_l2"].pop("scope")
    for student in tiny["students"].values():
        student.pop("targets")

    def change(config: Tiny) -> None:
        config["datasets"]["large"] = {"source": {"type": "digits"}, "image_size": 48}
        config["teachers"]["large_resnet"] = {"dataset": "large", "model": "resnet", "recipe": "network"}

    touched = changed(tiny, change)
    counts = Counter(name.split("/")[0] for name in touched)
    assert counts == {
        "prepare_dataset": 1,
        "train_teacher": 1,
        "cache_embeddings": 5,
        "train_joint_teacher": 2 * 3,
        "cache_targets": 2 * 3,
        "distill_student": 2 * 3 + 1,  # of single-dataset distillation, only the new dataset's
        "train_baseline": 1,
    }
    stores = {name.removeprefix("cache_embeddings/") for name in touched if name.startswith("cache_embeddings/")}
    assert all("large" in name for name in stores)
