"""`why` says where an artefact stands, and names every difference to the nearest one."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from typing import Any

import pytest

from kd.artefacts.lock import writing
from kd.cli.why import why
from kd.common.errors import UserError
from kd.planning.plan import Plan, find_job, plan_of
from tests.cli.conftest import Edit, build, built, configfile, planned
from tests.conftest import ROOT

Tiny = dict[str, Any]
STUDENT = "mlfd_l1-for-digits-seed0"


def told(plan: Plan, name: str = STUDENT) -> list[str]:
    return list(why(plan, find_job(plan, name)))


def test_why__finished(config: Tiny) -> None:
    lines = told(built(config))
    assert lines[0] == f"distill_student/{STUDENT}"
    assert lines[2].startswith("finished 2")
    assert len(lines) == 3


def test_why__nothing_there(config: Tiny) -> None:
    lines = told(planned(config))
    assert lines[2:] == [
        "not there",
        f"nothing to compare it with: there is no other distill_student of the name {STUDENT}",
    ]


def test_why__begun_and_being_written(config: Tiny) -> None:
    plan = planned(config)
    job = find_job(plan, "distill_student/" + STUDENT)
    with pytest.raises(UserError):  # its upstreams are missing
        build(job)
    assert told(plan)[2].startswith("unfinished: it was begun, and nobody is at it now")
    with writing(job.directory):
        assert told(plan)[2].startswith("in progress: being written by")


def test_why__damaged(config: Tiny) -> None:
    plan = built(config)
    job = find_job(plan, STUDENT)
    (job.directory / "content.txt").write_text("mada\n")
    assert told(plan)[2].startswith(f"damaged: {job.directory}/content.txt: sha256: found")


def test_why__names_each_differing_field(config: Tiny) -> None:
    built(config)
    config["recipes"]["student"] = config["recipes"]["network"] | {"lr": 0.01}
    config["students"]["mlfd_l1"]["recipe"] = "student"
    lines = told(planned(config))
    assert lines[2] == "not there"
    assert lines[4:] == ["  recipe.lr: 0.003 -> 0.01"]


def test_why__follows_upstreams_and_explains_each_once(config: Tiny) -> None:
    before = built(config)
    config["datasets"]["mnist5k"]["image_size"] = 48
    plan = planned(config)
    text = "\n".join(told(plan))
    old, new = (find_job(each, "prepare_dataset/mnist5k").key for each in (before, plan))
    assert text.count("image_size: [32, 32] -> [48, 48]") == 1
    assert f"dataset is another: prepare_dataset/mnist5k/{old} -> {new}\n" in text
    assert "as above" in text
    assert "arrays" not in text  # of the stores: readers do not depend on them


def test_why__says_which_source_files_differ(config: Tiny, edit: Edit) -> None:
    built(config)
    edit("kd.distillers.mlfd")
    lines = told(planned(config))
    assert lines[4:] == [
        "  kd/distillers/mlfd.py: changed",
        f"only code differs: `python -m kd adopt distill_student/{STUDENT}` would take it as it is",
    ]


def test_why__compares_with_the_nearest(config: Tiny) -> None:
    other = copy.deepcopy(config)
    other["recipes"]["network"].update(lr=0.5, epochs=7, batch_size=8)
    built(config)
    built(other)
    config["students"]["mlfd_l1"]["distiller"] = {"name": "mlfd", "temperature": 5}
    assert told(planned(config))[4:] == ["  distiller.temperature: 2.0 -> 5.0"]


def test_why__mentions_versions(config: Tiny) -> None:
    plan = built(config)
    job = find_job(plan, STUDENT)
    manifest = json.loads(job.manifest.read_text())
    manifest["versions"]["torch"] = "1.0"
    job.manifest.write_text(json.dumps(manifest))
    assert "note: made with other versions, which are in no key: torch 1.0 -> " in told(plan)[-1]


def test_find_job__ambiguous_and_unknown(config: Tiny) -> None:
    config["teachers"]["mlfd"] = config["teachers"].pop("digits_resnet")
    config["baselines"]["mlfd"] = config["baselines"].pop("joint_baseline")
    plan = planned(config)
    several = r"is the name of several, say which: train_teacher/mlfd-seed0/\w{16}, train_baseline"
    with pytest.raises(UserError, match=several):
        find_job(plan, "mlfd-seed0")
    assert find_job(plan, "train_baseline/mlfd-seed0").stage == "train_baseline"
    config["caches"] = {"small": {"dtype": "int8"}}
    config["students"]["mlfd_l2"]["cache"] = "small"  # stores of one name in two precisions
    plan = planned(config)
    store = "mlfd-on-digits-seed0"
    with pytest.raises(UserError, match="is the name of several"):
        find_job(plan, store)
    both = [job for job in plan.stage("cache_embeddings") if job.name == store]
    assert [find_job(plan, f"cache_embeddings/{store}/{job.key}") for job in both] == both
    assert len(both) == 2
    with pytest.raises(UserError, match="did you mean mnist5k_byobnet-seed0"):
        find_job(plan, "mnist5k_byobnet")


def test_command__why_from_a_shell(config: Tiny) -> None:
    plan = built(config)
    command = [sys.executable, "-m", "kd", "why", STUDENT, "--configfile", str(configfile(config))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[:2] == told(plan)[:2]
    command[-1] = "nowhere.yaml"
    failed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert failed.stderr == "error: nowhere.yaml: cannot be read (No such file or directory)\n"


def test_plan_of__refuses_what_is_no_config(tmp_path: Any) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("- a\n")
    with pytest.raises(UserError, match="holds list, expected the keys of a config"):
        plan_of(path)
    path.write_text("a: [\n")
    with pytest.raises(UserError, match="is not valid YAML"):
        plan_of(path)
