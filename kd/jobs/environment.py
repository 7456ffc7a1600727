"""The environment that jobs run in."""

from __future__ import annotations

import os
import sys
from pathlib import Path

RAM, DEVICE = "KD_RAM_GIB", "KD_DEVICE_GIB"
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


def gpu_count() -> int:
    """NVIDIA GPUs of this machine, as its driver lists them; asking torch would take seconds."""
    return len(list(Path("/proc/driver/nvidia/gpus").glob("*")))
