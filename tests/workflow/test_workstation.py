"""One machine: as many jobs at a time as its GPUs have room for, and Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from kd.artefacts.lock import WRITER
from kd.jobs.run import JOB_LOG
from kd.training.loop import CHECKPOINT
from tests.workflow.running import snakemake, started, wait_until

START_SECONDS = 180


def teachers_at_once(printed: str) -> int:
    """How many were started before the first of them ended."""
    return len(re.findall(r"(?<!in )rule train_teacher:", printed.split("(Rule: train_teacher)", maxsplit=1)[0]))


def test_workstation__gpus_bound_the_jobs_and_ctrl_c_loses_nothing(
    tmp_path: Path, tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two teachers that share a pretended GPU are stopped; then they go on, one after the other on another one."""
    tiny |= {"joint_teachers": {}, "students": {}, "baselines": {}, "resources": {"jobs_per_gpu": 2}}
    tiny["recipes"]["network"]["epochs"] = 40
    tiny["teachers"]["mnist5k_byobnet"]["dataset"] = "digits"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    running = started(tmp_path, "teachers", config=tiny, own_group=True)
    teachers = tmp_path / "results/train_teacher"
    wait_until(
        lambda: sum("val=" in path.read_text() for path in teachers.rglob(JOB_LOG)) == 2,
        START_SECONDS,
        "teachers do not start",
    )
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does: to Snakemake and to its jobs
    printed, _ = running.communicate(timeout=30)
    assert running.returncode != 0
    assert "Traceback" not in printed
    assert teachers_at_once(printed) == 2
    assert len(list(teachers.rglob(CHECKPOINT))) == 2
    assert not list(teachers.rglob(WRITER))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    again = snakemake(tmp_path, "teachers", config=tiny | {"resources": {"jobs_per_gpu": 1}})
    assert again.returncode == 0, again.stdout
    assert teachers_at_once(again.stdout) == 1
    for path in teachers.rglob(JOB_LOG):
        log = path.read_text()
        assert log.index(" GPU 5\n") < log.index("stopped by SIGINT") < log.index(" GPU 0\n")
        assert log.index("stopped by SIGINT") < log.index("continuing in epoch")


@pytest.mark.parametrize(
    ("wanted", "visible", "said"),
    [
        ({"gpus": 3}, "0,1", "resources.train_teacher.gpus: 3, expected at most 2, as many as this machine has"),
        ({"gpus": 1}, "", "resources.train_teacher.gpus: 1, expected at most 0, as many as this machine has"),
        ({"nodes": 2}, "0,1", "resources.train_teacher.nodes: 2, expected 1 on a workstation"),
    ],
)
def test_gpus__more_than_there_are_is_said_before_any_job(
    tmp_path: Path,
    tiny: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    wanted: dict[str, int],
    visible: str,
    said: str,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    tiny["resources"] = {"train_teacher": wanted}
    done = snakemake(tmp_path, "teachers", config=tiny)
    assert done.returncode != 0
    assert said in done.stdout
    assert "Traceback" not in done.stdout
    assert "rule " not in done.stdout
    assert not (tmp_path / "results/prepare_dataset").exists()
