"""Leases of GPUs: never two on one slot, none lost, and what is visible is honoured. Devices are pretended."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kd.common.errors import UserError
from kd.jobs.environment import visible_devices
from kd.jobs.lease import identities, lease

# Leases devices, checks by files of its own that nobody else has them, works, and gives them back.
JOB = """
import os, sys, time
from pathlib import Path
from kd.jobs import lease as leasing
from kd.jobs.lease import lease
leasing.FOLDERS = Path(sys.argv[4])
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


KEPT: list[int] = []  # slots of pretended jobs


@pytest.fixture(autouse=True)
def pretend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two devices, and a folder for leases that nobody else uses."""
    (tmp_path / "run").mkdir()
    monkeypatch.setattr("kd.jobs.lease.FOLDERS", tmp_path / "run")
    monkeypatch.setattr("kd.jobs.lease.DRIVER", tmp_path / "driver")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    yield
    while KEPT:
        os.close(KEPT.pop())


def start(
    folder: Path, count: int = 1, seconds: float = 0.1, environment: dict[str, str] | None = None
) -> subprocess.Popen[bytes]:
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-c", JOB, str(folder), str(count), str(seconds), str(folder.parent / "run")]
    return subprocess.Popen(command, env=os.environ | (environment or {}))


def test_lease__eight_jobs_on_two_devices_some_killed(tmp_path: Path) -> None:
    """Five rounds: never two jobs on a device, and none leaked by kills."""
    rng = random.Random(0)
    for number in range(5):
        folder = tmp_path / str(number)
        # However they were started: in a login shell, by cron, in another scratch folder.
        elsewhere = [{"XDG_RUNTIME_DIR": str(tmp_path)}, {"XDG_RUNTIME_DIR": "", "TMPDIR": str(folder)}, {}]
        jobs = [start(folder, rng.choice([1, 1, 2]), rng.uniform(0, 0.1), rng.choice(elsewhere)) for _ in range(8)]
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
        held: list[int] = []
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


INFORMATION = """Model: \t\t {model}
IRQ:   \t\t 123
GPU UUID: \t {uuid}
Bus Type: \t PCIe
Device Minor: \t {minor}
"""
UUIDS = ["GPU-1a2b0000-0000", "GPU-1a3c0000-0000"]


def pretend_driver(folder: Path, models: tuple[str, str] = ("NVIDIA A100", "NVIDIA A100")) -> None:
    """Two GPUs; the minor numbers of their device files are not their place on the bus."""
    for place, (uuid, model) in enumerate(zip(UUIDS, models, strict=True)):
        card = folder / f"0000:0{place + 1}:00.0"
        card.mkdir(parents=True)
        (card / "information").write_text(INFORMATION.format(model=model, uuid=uuid, minor=1 - place))


@pytest.mark.parametrize(
    "names", [("0", UUIDS[0]), (UUIDS[1], "1"), ("GPU-1a2b", "0"), (UUIDS[1], "GPU-1a3"), ("1", "1")]
)
def test_lease__one_gpu_has_many_names_and_is_leased_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, str]
) -> None:
    pretend_driver(tmp_path / "driver")
    first, second = names
    assert as_another_job(1, monkeypatch, first) == [first]
    monkeypatch.setattr(time, "sleep", interrupt)
    with pytest.raises(InterruptedError):
        as_another_job(1, monkeypatch, second)
    other = "1" if first in ("0", UUIDS[0], "GPU-1a2b") else "0"
    assert as_another_job(1, monkeypatch, f"{second},{other}") == [other]


def interrupt(_: float) -> None:
    raise InterruptedError("it would wait")


def test_lease__numbers_that_say_nothing_stay_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA puts the fastest first, and only it knows which that is."""
    pretend_driver(tmp_path / "driver", ("NVIDIA T4", "NVIDIA H100"))
    assert identities(["0", "1", "GPU-1a3", "GPU-1", "7"]) == ["0", "1", UUIDS[1], "GPU-1", "7"]
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert identities(["0", "1", "GPU-1a3"]) == [*UUIDS, UUIDS[1]]


def test_lease__two_names_of_one_gpu_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_driver(tmp_path / "driver")
    with pytest.raises(UserError, match=r"2 GPUs are wanted, and 0, GPU-1a2b are only 1"):
        as_another_job(2, monkeypatch, "0,GPU-1a2b")


def test_lease__parts_of_a_gpu_by_the_beginning_of_their_uuid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin/nvidia-smi"
    program.parent.mkdir()
    listed = "GPU 0: NVIDIA A100 (UUID: GPU-1)\n  MIG 1g.5gb Device  0: (UUID: MIG-77aa)\n  MIG 1g.5gb (UUID: MIG-78)\n"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{listed}END\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    assert identities(["MIG-77", "MIG-78", "MIG-7", "MIG-GPU-1/2/0"]) == [
        "MIG-77aa",
        "MIG-78",
        "MIG-7",
        "MIG-GPU-1/2/0",
    ]


def pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


@pytest.mark.parametrize(
    ("lay", "said"),
    [
        (lambda folder: folder.symlink_to(folder.parent), "not a directory|symbolic links"),
        (lambda folder: folder.write_text(""), "not a directory"),
        (lambda folder: folder.mkdir(mode=0o755), "with mode 755, expected a folder of your own with mode 700"),
        (lambda folder: (folder.mkdir(mode=0o700), (folder / "turn").symlink_to("/etc/passwd")), "turn: .*; remove it"),
        (lambda folder: (folder.mkdir(mode=0o700), (folder / "0.0").symlink_to(folder / "x")), r"0\.0: .*; remove it"),
        (lambda folder: (folder.mkdir(mode=0o700), pipe(folder / "0.0")), r"0\.0: .*; remove it"),
        (lambda folder: (folder.mkdir(mode=0o700), (folder / "0.0").mkdir()), r"0\.0: is a directory; remove it"),
    ],
)
def test_lease__what_others_put_into_the_folder_of_all_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lay: Callable[[Path], object], said: str
) -> None:
    folder = tmp_path / f"run/kd-gpus-{os.getuid()}"
    lay(folder)
    before = sorted(each.name for each in tmp_path.rglob("*"))
    with pytest.raises(UserError, match=said) as caught:
        as_another_job(1, monkeypatch, "0")
    assert str(folder) in str(caught.value)
    assert set(before) | {"turn"} >= {each.name for each in tmp_path.rglob("*")}


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_lease__a_folder_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / f"run/kd-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700)
    os.chown(folder, 12345, -1)
    with pytest.raises(UserError, match="is of user 12345"):
        as_another_job(1, monkeypatch, "0")
