"""The frame around stages: complete or not, checked on opening, errors in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kd.config import load_config
from kd.jobs.errors import UserError
from kd.jobs.handover import hand_over, job_file, told_file
from kd.jobs.job import Job, artefact_key
from kd.jobs.manifest import read_manifest
from kd.jobs.run import Context, Outcome, run_job, stage_main
from kd.plan import Plan
from tests.conftest import ROOT
from tests.jobs.building import Spec, job, refuse, write

Tiny = dict[str, Any]


def test_run_job__builds_records_and_does_nothing_twice(tmp_path: Path) -> None:
    made = job(tmp_path)
    run_job(made, Spec(text="hello"), write)
    manifest = read_manifest(made)
    assert manifest["result"] == {"length": 5}
    assert manifest["files"][0]["path"] == "content.txt"
    assert manifest["files"][0]["bytes"] == manifest["bytes"] == 5
    made.manifest.unlink()  # as Snakemake does before it starts a job
    run_job(made, Spec(text="hello"), refuse)
    assert read_manifest(made) == manifest


def test_run_job__builds_anew_what_is_damaged(tmp_path: Path) -> None:
    made = job(tmp_path)
    run_job(made, Spec(text="hello"), write)
    (made.directory / "content.txt").write_text("jello")  # of the same size
    with pytest.raises(UserError, match=r"content\.txt: sha256: found \w+, its manifest says \w+; delete"):
        read_manifest(made)
    made.manifest.unlink()
    run_job(made, Spec(text="hello"), write)
    assert (made.directory / "content.txt").read_text() == "hello"


def test_run_job__refuses_damaged_or_foreign_upstreams(tmp_path: Path) -> None:
    first = job(tmp_path, "first")
    second = job(tmp_path, "second", input=first)
    with pytest.raises(UserError, match=r"not a finished artefact, manifest\.json is missing"):
        run_job(second, Spec(text="x"), refuse)
    run_job(first, Spec(text="hello"), write)
    (first.directory / "content.txt").write_text("he")
    with pytest.raises(UserError, match=r"content\.txt: bytes: found 2, its manifest says 5"):
        run_job(second, Spec(text="x"), refuse)
    (first.directory / "content.txt").unlink()
    with pytest.raises(UserError, match=r"content\.txt: is missing"):
        run_job(second, Spec(text="x"), refuse)
    manifest = json.loads(first.manifest.read_text())
    first.manifest.write_text(json.dumps(manifest | {"key": "f" * 16}))
    with pytest.raises(UserError, match=f"key: found {'f' * 16}, expected {first.key}"):
        read_manifest(first)
    first.manifest.write_text("{")
    with pytest.raises(UserError, match="is not valid JSON"):
        read_manifest(first)


def test_run_job__a_failed_build_is_not_complete(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "kd")
    made = job(tmp_path)

    def fail(context: Context[Spec]) -> Outcome:
        write(context)
        raise UserError("no")

    with pytest.raises(UserError, match="no"):
        run_job(made, Spec(text="hello"), fail)
    assert not made.manifest.exists()
    # What it was to become, and what was said, stays.
    assert Job.model_validate_json((made.directory / ".job.json").read_text()) == made
    assert "stage a: building" in (made.directory / ".job.log").read_text()
    run_job(made, Spec(text="hello"), write)
    assert made.manifest.exists()


def test_stage__of_hundreds_of_upstreams_starts_and_its_error_is_the_last_line(tmp_path: Path, tiny: Tiny) -> None:
    """What it is told is longer than Linux lets an argument be."""
    names = [f"dataset_{number}" for number in range(24)]
    tiny["datasets"] = dict.fromkeys(names, tiny["datasets"]["digits"])
    tiny["teachers"] = {name: tiny["teachers"]["digits_resnet"] | {"dataset": name} for name in names}
    tiny["joint_teachers"] = {"joint": tiny["joint_teachers"]["joint_l2"]}
    tiny |= {"students": {}, "baselines": {}, "results": str(tmp_path)}
    (joint,) = Plan(load_config(tiny)).stage("train_joint_teacher")
    assert len(joint.upstream) == 24 * 24 + 24
    assert len(joint.model_dump_json()) > 128 * 1024
    hand_over(job_file(joint), joint.model_dump_json())
    command = f"exec {sys.executable} -m kd.stages.train_joint_teacher --job {job_file(joint)}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    missing = next(iter(joint.upstream.values())).directory
    assert done.stderr.splitlines()[-1] == f"error: {missing}: not a finished artefact, manifest.json is missing"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is no job of this stage: : Invalid JSON"),
        ('{"stage": "stage"}', "is no job of this stage: name: Field required"),
        (job(Path("results")).model_dump_json().replace("text", "words"), "is no job of this stage: text: Field"),
    ],
)
def test_stage__is_told_what_is_not_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], content: str, said: str
) -> None:
    told = told_file(tmp_path, "job", content)
    hand_over(told, content)
    monkeypatch.setattr(sys, "argv", ["stage", "--job", str(told)])
    monkeypatch.setattr("kd.jobs.run.listen", lambda: None)
    monkeypatch.setattr("kd.jobs.run.give_devices", lambda *_: None)
    with pytest.raises(SystemExit) as ended:
        stage_main(Spec, refuse)
    assert ended.value.code == 1
    assert f"error: --job: {told}: {said}" in capsys.readouterr().err.splitlines()[-1]


def test_artefact_key__depends_on_all_it_is_told() -> None:
    base = artefact_key("s", {"lr": 0.1, "wd": 0.2}, {"a": "1"}, {"c": "1"})
    assert base == artefact_key("s", {"wd": 0.2, "lr": 0.1}, {"a": "1"}, {"c": "1"})
    others = [
        artefact_key("s", {"lr": 0.2, "wd": 0.1}, {"a": "1"}, {"c": "1"}),
        artefact_key("t", {"lr": 0.1, "wd": 0.2}, {"a": "1"}, {"c": "1"}),
        artefact_key("s", {"lr": 0.1, "wd": 0.2}, {"a": "2"}, {"c": "1"}),
        artefact_key("s", {"lr": 0.1, "wd": 0.2}, {"b": "1"}, {"c": "1"}),
        artefact_key("s", {"lr": 0.1, "wd": 0.2}, {"a": "1"}, {"c": "2"}),
        artefact_key("s", {"lr": 0.1, "wd": 0.2}, {"a": "1"}, {"d": "1"}),
    ]
    assert len({base, *others}) == 7
