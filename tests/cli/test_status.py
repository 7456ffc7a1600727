"""How far a run is, by every state an artefact can be in; and what a job said last."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kd.artefacts.lock import writing
from kd.cli.status import last_error, status
from kd.config.load import load_config
from kd.planning.plan import Plan
from tests.conftest import make


def plan_of(tiny: dict[str, Any], results: Path) -> Plan:
    tiny["recipes"]["network"] |= {"lr": 1e12, "optimizer": "sgd", "schedule": "constant"}
    return Plan(load_config(tiny | {"results": str(results)}))


def test_status__every_state(tiny: dict[str, Any], tmp_path: Path) -> None:
    plan = plan_of(tiny, tmp_path)
    jobs = {job.name: job for job in plan.jobs.values()}
    make(jobs["digits"])
    with pytest.raises(Exception, match="loss is"):
        make(jobs["digits_resnet-seed0"])
    stopped = jobs["mnist5k"].directory
    stopped.mkdir(parents=True)
    (stopped / ".job.log").write_text("2026-01-01 00:00:00,000 host 1 stopped by SIGTERM; the same command goes on\n")
    with writing(jobs["joint_baseline-seed0"].directory):
        log = jobs["joint_baseline-seed0"].directory / ".job.log"
        log.write_text("2026-01-01 00:00:00,000 host 1 step 7/80 epoch=1 loss=2 val=30, 12 s left\n")
        *lines, counts = status(plan)
    found = {line.split()[1]: line for line in lines}
    assert "prepare_dataset/digits" not in found
    assert found["train_teacher/digits_resnet-seed0"].startswith("failed ")
    assert "lower recipe lr" in found["train_teacher/digits_resnet-seed0"]
    assert found["prepare_dataset/mnist5k"].startswith("stopped ")
    assert found["train_baseline/joint_baseline-seed0"].startswith("running ")
    assert "step 7/80 epoch=1 loss=2 val=30, 12 s left; by " in found["train_baseline/joint_baseline-seed0"]
    assert found["train_teacher/mnist5k_byobnet-seed0"].startswith("waiting ")
    assert "for 1 of 1, such as prepare_dataset/mnist5k" in found["train_teacher/mnist5k_byobnet-seed0"]
    assert counts.startswith("1 finished, 1 running, 1 failed, 1 stopped, ")
    assert any(line.split()[1] == "prepare_dataset/digits" for line in list(status(plan, everything=True))[:-1])


TRACEBACK = "Traceback (most recent call last):\n  File ...\n"


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("12:00:00 building\nerror: lower recipe lr\n", "lower recipe lr"),
        ("error: of one process\n12:00:00 another says more\n", "of one process"),
        (f"{TRACEBACK}ValueError: no\n\n", "ValueError: no"),
        (f"{TRACEBACK}ValueError: no\nerror: yes\n", "yes"),
        (
            "12:00:00 step 3\n",
            "ended without an error message, as when it is killed for its memory; its last line is: 12:",
        ),
        ("", "ended without an error message, as when it is killed for its memory; its log is empty"),
        (None, "ended without an error message, as when it is killed for its memory; its log is empty"),
    ],
)
def test_last_error__whoever_had_the_last_word(tmp_path: Path, log: str | None, said: str) -> None:
    path = tmp_path / "job.log"
    if log is not None:
        path.write_text(log)
    assert last_error(path).startswith(said)
