"""The frame around stages: complete or not, checked on opening, errors in one line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kd.artefacts.job import Job, artefact_key
from kd.artefacts.manifest import read_manifest
from kd.cli.status import last_line
from kd.common.errors import UserError
from kd.config.load import load_config
from kd.jobs.handover import hand_over, job_file, told_file
from kd.jobs.run import Context, Outcome, run_job, stage_main
from kd.planning.plan import Plan
from tests.artefacts.building import Spec, job, refuse, write, write_store
from tests.conftest import ROOT

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


def stumble(context: Context[Spec]) -> Outcome:
    outcomes: dict[str, Outcome] = {context.spec.text: write(context)}
    return outcomes["lr"]


def run_stage(monkeypatch: pytest.MonkeyPatch, made: Job, build: Callable[[Context[Spec]], Outcome]) -> None:
    """As on a command line."""
    told = job_file(made)
    hand_over(told, made.model_dump_json())
    monkeypatch.setattr("sys.argv", ["stage", "--job", str(told), "--devices", "0"])
    monkeypatch.setattr("kd.jobs.run.listen", lambda: None)
    stage_main(Spec, build)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (stumble, "KeyError: 'lr'"),
        (lambda _: (_ for _ in ()).throw(ZeroDivisionError("by\nzero")), "ZeroDivisionError: by zero"),
        (lambda _: (_ for _ in ()).throw(RuntimeError("PytorchStreamWriter failed")), "RuntimeError: PytorchStream"),
    ],
)
def test_stage__an_unexpected_error_is_one_line_and_its_traceback_is_in_the_log(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    build: Callable[[Context[Spec]], Outcome],
    said: str,
) -> None:
    made = job(tmp_path)
    with pytest.raises(SystemExit) as ended:
        run_stage(monkeypatch, made, build)
    assert ended.value.code == 1
    path = made.directory / ".job.log"
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"error: {said}")
    assert last.endswith(f"; traceback in {path}")
    assert " line " in last
    kept = path.read_text()
    assert "Traceback (most recent call last):" in kept
    assert f"failed: {said}" in kept.splitlines()[-1]
    assert last_line(path).startswith(f"failed: {said}")


def test_stage__an_error_before_there_is_a_log_keeps_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: Path) -> None:
        raise KeyError("x")

    monkeypatch.setattr("kd.jobs.run.share", broken)
    with pytest.raises(SystemExit):
        run_stage(monkeypatch, job(tmp_path), write)
    *above, last = capsys.readouterr().err.splitlines()
    assert "Traceback (most recent call last):" in above
    assert last.startswith("error: KeyError: 'x' in kd/jobs/run.py line ")


def test_stage__too_little_memory_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run_stage(monkeypatch, job(tmp_path), lambda _: Outcome({"a": bytearray(1 << 62)}))
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: out of main memory")


@pytest.fixture
def follower(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second process of a Slurm step of two."""
    for name, value in {"NTASKS": "2", "PROCID": "1", "JOB_ID": "7", "STEP_ID": "0", "RESTART_COUNT": "1"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setattr("kd.jobs.environment.node_count", lambda: 2)


@pytest.mark.usefixtures("follower")
@pytest.mark.parametrize("state", ["whole", "missing", "damaged where only a whole reading sees it"])
def test_run_job__a_follower_computes_just_when_the_first_process_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    """Not when the first one finds that all is there: then nobody would answer."""
    made = job(tmp_path)
    with monkeypatch.context() as alone:
        alone.setenv("SLURM_PROCID", "0")
        if state != "missing":
            run_job(made, Spec(text="x"), write_store)
        if state.startswith("damaged"):
            chunk = made.directory / "data.zarr/rows/c.1.0"
            chunk.write_bytes(b"?" + chunk.read_bytes()[1:])
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")  # what another step decided does not count
    followed: list[str] = []

    def compute(_: Context[Spec]) -> Outcome:
        followed.append("computed")
        return Outcome({})

    def first_process(_: float) -> None:
        """It runs while the follower waits."""
        with monkeypatch.context() as patch:
            patch.setattr("kd.jobs.run.time.sleep", interrupt)
            patch.setenv("SLURM_PROCID", "0")
            shutil.rmtree(made.directory / "data.zarr") if state.startswith("damaged") else None
            run_job(made, Spec(text="x"), write_store)

    monkeypatch.setattr("kd.jobs.run.time.sleep", first_process)
    monkeypatch.setattr("kd.jobs.run._end_with_parent", lambda: None)
    run_job(made, Spec(text="x"), compute)
    assert followed == ([] if state == "whole" else ["computed"])


def interrupt(_: float) -> None:
    raise InterruptedError("it would wait")


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
