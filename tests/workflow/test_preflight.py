"""Before any job: what this run will make, against what is free; nothing is started that cannot be."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tests.workflow.running import snakemake

ANNOUNCED = "still to be made: "
LITTLE_SPACE = """
import os
real = os.statvfs
os.statvfs = lambda path: os.statvfs_result((*real(path)[:4], 1, *real(path)[5:]))
"""


def test_preflight__says_what_this_run_makes_and_only_before_real_work(tmp_path: Path, tiny: dict[str, Any]) -> None:
    assert ANNOUNCED not in snakemake(tmp_path, "datasets", "-n", config=tiny).stdout
    done = snakemake(tmp_path, "datasets")
    assert done.returncode == 0, done.stdout
    assert done.stdout.count(f"{ANNOUNCED}2 of 2, ") == 1
    assert done.stdout.index(ANNOUNCED) < done.stdout.index("rule prepare_dataset:")
    again = snakemake(tmp_path, "datasets")
    assert "Nothing to be done" in again.stdout
    assert ANNOUNCED not in again.stdout
    # Processes that Snakemake starts for single jobs, by Slurm or not, have this argument.
    (tmp_path / "results/prepare_dataset").rename(tmp_path / "results/before")
    assert ANNOUNCED not in snakemake(tmp_path, "datasets", "--no-hooks").stdout


def test_preflight__a_level_that_is_not_there_stops_the_run(tmp_path: Path, tiny: dict[str, Any]) -> None:
    tiny["models"]["byobnet"] = {"architecture": "crossvit_tiny_240", "input_size": [240, 240]}
    assert snakemake(tmp_path, "datasets", "-n", config=tiny).returncode == 0
    done = snakemake(tmp_path, "datasets", config=tiny)
    assert done.returncode != 0
    assert "joint_teachers.joint_l2.level: models.byobnet: level L2: the last map of timm's CrossVit" in done.stdout
    assert "Traceback" not in done.stdout
    assert "rule " not in done.stdout
    assert not (tmp_path / "results/prepare_dataset").exists()


def test_preflight__what_does_not_fit_is_not_started(tmp_path: Path, tiny: dict[str, Any]) -> None:
    """On a disk where a single block is free."""
    (tmp_path / "sitecustomize.py").write_text(LITTLE_SPACE)
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(tmp_path)
    try:
        done = snakemake(tmp_path, "teachers", config=tiny)
    finally:
        os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)
    assert done.returncode != 0
    assert "of space: free some space, set `results`" in done.stdout
    assert "still to be made: 4 of 4" in done.stdout
    assert "nothing was started" in done.stdout
    assert "rule " not in done.stdout
    assert not (tmp_path / "results/prepare_dataset").exists()
