"""The environment that jobs run in."""

from __future__ import annotations

import os
import sys
from pathlib import Path

RAM, DEVICE, DEVICES = "KD_RAM_GIB", "KD_DEVICE_GIB", "KD_DEVICES"
DEFAULT_RAM_GIB, DEFAULT_DEVICE_GIB = 4.0, 1.0


def prefer_this_python() -> None:
    """Make `python` in the commands of rules the one that runs Snakemake, whether its environment is active or not."""
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def give_memory(ram_gib: float, device_gib: float) -> None:
    """Tell the jobs that this process starts how much data each may keep in memory.

    Through the environment, not in their specs: it must change neither what they compute nor their keys.
    """
    os.environ.update({RAM: str(ram_gib), DEVICE: str(device_gib)})


def memory_budget() -> tuple[int, int]:
    """Bytes of data that this job may keep between epochs, in main memory and on the device."""
    given = (os.environ.get(RAM, DEFAULT_RAM_GIB), os.environ.get(DEVICE, DEFAULT_DEVICE_GIB))
    ram, device = (int(float(each) * 2**30) for each in given)
    return ram, device


def give_devices(count: int) -> None:
    """Tell this process, and those it starts to share its work, how many devices one training runs on."""
    os.environ[DEVICES] = str(count)


def device_count() -> int:
    """Devices that one training runs on, with a process each."""
    return int(os.environ.get(DEVICES, "1"))


def is_follower() -> bool:
    """Whether this process is not the first of those that share one training, but one that only computes with it."""
    return device_count() > 1 and int(os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_PROCID") or 0) > 0


def gpu_count() -> int:
    """NVIDIA GPUs of this machine, as its driver lists them; asking torch would take seconds."""
    return len(list(Path("/proc/driver/nvidia/gpus").glob("*")))
