"""One machine: as many jobs at a time as its GPUs have room for, and Ctrl-C."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from kd.jobs.lock import WRITER
from kd.jobs.run import JOB_LOG
from kd.training.loop import CHECKPOINT
from tests.workflow.running import snakemake, started

START_SECONDS = 60


def test_gpus__as_many_jobs_at_a_time_as_they_have_room_for(
    tmp_path: Path, tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny |= {"joint_teachers": {}, "students": {}, "baselines": {}}
    tiny["teachers"]["mnist5k_byobnet"]["dataset"] = "digits"
    cases = (("0", 1, 1), ("5", 2, 2))
    for seed, (visible, jobs_per_gpu, at_once) in enumerate(cases):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        tiny |= {"seeds": [seed], "resources": {"jobs_per_gpu": jobs_per_gpu}}
        done = snakemake(tmp_path, "teachers", config=tiny)
        assert done.returncode == 0, done.stdout
        until_one_ended = done.stdout[: done.stdout.index("(Rule: train_teacher)")]
        assert until_one_ended.count("rule train_teacher:") == at_once
        logs = [path.read_text() for path in (tmp_path / "results").glob(f"train_teacher/*-seed{seed}/*/{JOB_LOG}")]
        assert len(logs) == 2
        assert all(f" GPU {visible}\n" in log for log in logs)


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


def test_ctrl_c__leaves_checkpoints_and_no_lock_and_the_next_start_goes_on(
    tmp_path: Path, tiny: dict[str, Any]
) -> None:
    tiny["recipes"]["network"]["epochs"] = 150
    tiny |= {"joint_teachers": {}, "students": {}, "baselines": {}}
    tiny["teachers"]["mnist5k_byobnet"]["dataset"] = "digits"
    running = started(tmp_path, "teachers", config=tiny, own_group=True)
    teachers = tmp_path / "results/train_teacher"
    end = time.monotonic() + START_SECONDS
    while sum("val=" in path.read_text() for path in teachers.rglob(JOB_LOG)) < 2:
        assert time.monotonic() < end, "teachers do not start"
        time.sleep(0.1)
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does: to Snakemake and to its jobs
    printed, _ = running.communicate(timeout=30)
    assert running.returncode != 0
    assert "Traceback" not in printed
    assert len(list(teachers.rglob(CHECKPOINT))) == 2
    assert not list(teachers.rglob(WRITER))
    again = snakemake(tmp_path, "teachers")
    assert again.returncode == 0, again.stdout
    for path in teachers.rglob(JOB_LOG):
        assert "stopped by SIGINT" in path.read_text()
        assert "continuing in epoch" in path.read_text()
