"""Nothing is lost: kill -9 at fixed moments, a disk that is full or read-only; and then the same results."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kd.artefacts.job import Job
from kd.config.load import load_config
from kd.jobs.handover import hand_over, told_file
from kd.planning.plan import Plan
from tests.conftest import ROOT
from tests.killing import contents

TINY = (ROOT / "tests/tiny.yaml").read_text()
CLIPS = """
seeds: [0]
datasets:
  clips:
    source: {type: moving_digits, actions: [left, up], count: 25, frames: 8, size: 16}
    image_size: 16
    segments: 4
models:
  tsm: {backbone: tsm, architecture: test_resnet}
augmentations:
  shake: {translate: 0.1}
recipes:
  network: {lr: 0.003, epochs: 2, batch_size: 12, augmentation: shake}
teachers:
  clips: {dataset: clips, model: tsm, recipe: network}
students:
  kd: {teacher: individual, level: L1, views: 2, recipe: network}
"""


@pytest.mark.parametrize(("content", "kills", "files"), [(TINY, 12, 100), (CLIPS, 5, 40)], ids=["images", "clips"])
def test_killed__every_stage_goes_on_and_ends_with_the_same_bits(
    tmp_path: Path, content: str, kills: int, files: int
) -> None:
    """Each job of a workflow is killed before its 2nd rename, and asked to stop before its 6th."""
    config = tmp_path / "config.yaml"
    config.write_text(content)
    command = [sys.executable, "-m", "tests.killing", str(config), "--folder", str(tmp_path), "--at", "KILL:2,TERM:6"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    said = re.fullmatch(r"(\d+) kills, (\d+) files, 0 differ\n", done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert said
    assert int(said[1]) >= kills
    assert int(said[2]) > files
    assert not [path for path in (tmp_path / "killed").rglob("*") if path.name.endswith((".partial", ".pt"))]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 100 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("needs to mount a tmpfs, which only root may")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def remount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(disk)], check=True)


def prepare(results: Path) -> tuple[Job, subprocess.CompletedProcess[str]]:
    """Run the stage that packs 300 digits of 32 x 32 pixels."""
    raw: dict[str, Any] = yaml.safe_load((ROOT / "tests/tiny.yaml").read_text())
    raw["datasets"]["digits"]["split"] = {"train": 200, "val": 50, "test": 50}
    job = Plan(load_config(raw | {"results": str(results)})).stage("prepare_dataset")[0]
    content = job.model_dump_json()
    told = told_file(results.parent, job.name, content)
    hand_over(told, content)
    command = [sys.executable, "-m", "kd.stages.prepare_dataset", "--job", str(told)]
    return job, subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_disk__full_and_read_only_are_one_line_and_lose_nothing(tmp_path: Path, small_disk: Path) -> None:
    _, done = prepare(tmp_path / "undisturbed")
    assert done.returncode == 0
    job, full = prepare(small_disk)
    assert full.returncode == 1
    assert "Traceback" not in full.stderr
    assert full.stderr.splitlines()[-1].startswith("error: ")
    assert "no space left" in full.stderr.splitlines()[-1]
    assert not job.manifest.exists()
    remount(small_disk, "ro,size=2m")
    _, read_only = prepare(small_disk)
    assert read_only.returncode == 1
    assert "Traceback" not in read_only.stderr
    assert "read-only" in read_only.stderr.splitlines()[-1]
    remount(small_disk, "rw,size=2m")
    _, done = prepare(small_disk)
    assert done.returncode == 0, done.stderr
    assert contents(small_disk) == contents(tmp_path / "undisturbed")
