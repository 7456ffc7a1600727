"""The frame around stages: complete or not, checked on opening, errors in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kd.jobs.errors import UserError
from kd.jobs.job import Job, artefact_key
from kd.jobs.manifest import read_manifest
from kd.jobs.run import Context, Outcome, run_job
from tests.conftest import ROOT
from tests.jobs.building import Spec, job, refuse, write


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


def test_stage__a_mistake_is_the_last_line_of_its_output(tmp_path: Path) -> None:
    first = job(tmp_path, "first")
    made = job(tmp_path, "second", dataset=first).model_copy(
        update={"spec": {"model": {"architecture": "test_resnet"}, "recipe": None, "seed": 0}}
    )
    command = [sys.executable, "-m", "kd.stages.train_teacher", "--job", made.model_dump_json()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    message = f"error: {first.directory}: not a finished artefact, manifest.json is missing"
    assert done.stderr.splitlines()[-1] == message
    assert "Traceback" not in done.stderr


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
