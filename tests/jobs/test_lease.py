"""Leases of GPUs: never two on one slot, none lost, and what is visible is honoured. Devices are pretended."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from kd.jobs.environment import visible_devices
from kd.jobs.errors import UserError
from kd.jobs.lease import lease

# Leases devices, checks by files of its own that nobody else has them, works, and gives them back.
JOB = """
import os, sys, time
from pathlib import Path
from kd.jobs.lease import lease
folder, count, seconds = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except FileNotFoundError:
        return False
devices = lease(count)
assert os.environ["CUDA_VISIBLE_DEVICES"] == ",".join(devices) and len(set(devices)) == count
for device in devices:
    holder = folder / device
    if holder.exists() and alive(int(holder.read_text())):
        (folder / "violation").touch()
    holder.write_text(str(os.getpid()))
time.sleep(seconds)
for device in devices:
    (folder / device).unlink()
"""


KEPT: list[IO[str]] = []  # slots of pretended jobs


@pytest.fixture(autouse=True)
def pretend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two devices, and a folder for leases that nobody else uses."""
    (tmp_path / "run").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    yield
    while KEPT:
        KEPT.pop().close()


def start(folder: Path, count: int = 1, seconds: float = 0.1) -> subprocess.Popen[bytes]:
    folder.mkdir(exist_ok=True)
    return subprocess.Popen([sys.executable, "-c", JOB, str(folder), str(count), str(seconds)])


def test_lease__eight_jobs_on_two_devices_some_killed(tmp_path: Path) -> None:
    """Ten rounds: never two jobs on a device, and none leaked by kills."""
    rng = random.Random(0)
    for number in range(10):
        folder = tmp_path / str(number)
        jobs = [start(folder, rng.choice([1, 1, 2]), rng.uniform(0, 0.1)) for _ in range(8)]
        victims = rng.sample(jobs, 3)
        time.sleep(rng.uniform(0, 0.3))
        for victim in victims:
            victim.send_signal(signal.SIGKILL)
        for job in jobs:
            code = job.wait(timeout=60)
            assert code == 0 or job in victims
        assert not (folder / "violation").exists()
    assert start(tmp_path / "last", 2).wait(timeout=60) == 0  # both are free


def as_another_job(count: int, monkeypatch: pytest.MonkeyPatch, visible: str) -> list[str]:
    """What a job beside those before would get."""
    with monkeypatch.context() as patch:
        held: list[IO[str]] = []
        patch.setattr("kd.jobs.lease._held", held)
        patch.setenv("CUDA_VISIBLE_DEVICES", visible)
        devices = lease(count)
    KEPT.extend(held)
    return devices


def test_lease__jobs_share_a_device_where_the_config_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KD_JOBS_PER_GPU", "2")
    first, second, both = (as_another_job(count, monkeypatch, "GPU-1a2b,MIG-3c4d/5/0") for count in (1, 1, 2))
    assert sorted(first + second) == ["GPU-1a2b", "MIG-3c4d/5/0"]  # spread, before any device has two
    assert sorted(both) == ["GPU-1a2b", "MIG-3c4d/5/0"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [("1,3", ["1", "3"]), ("GPU-1a2b, GPU-9f", ["GPU-1a2b", "GPU-9f"]), ("0,-1,2", ["0"]), ("", []), ("-1", [])],
)
def test_visible_devices__as_cuda_reads_them(monkeypatch: pytest.MonkeyPatch, given: str, expected: list[str]) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert visible_devices() == expected


def test_lease__more_than_there_are_is_a_users_mistake() -> None:
    with pytest.raises(UserError, match=r"3 GPUs are wanted \(config resources, gpus\) .* may see 2: 0, 1"):
        lease(3)


def test_lease__nothing_without_devices_and_for_jobs_of_the_cpu() -> None:
    assert lease(0) == []
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    assert lease(2) == []


def test_lease__leaves_what_slurm_gave_and_shares_out_a_larger_allocation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert as_another_job(2, monkeypatch, "0,1") == ["0", "1"]
    assert not list((tmp_path / "run").iterdir())
    assert as_another_job(1, monkeypatch, "0,1") == ["0"]
    assert [each.name for each in (tmp_path / "run").iterdir()] == [f"kd-gpus-{os.getuid()}-7"]
    assert as_another_job(1, monkeypatch, "0,1") == ["1"]
