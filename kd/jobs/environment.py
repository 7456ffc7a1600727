"""The environment that jobs run in."""

from __future__ import annotations

import os
import sys
from pathlib import Path

VISIBLE = "CUDA_VISIBLE_DEVICES"
DRIVER = Path("/proc/driver/nvidia/gpus")
RAM, DEVICE = "KD_RAM_GIB", "KD_DEVICE_GIB"
DEVICES, NODES, JOBS_PER_GPU = "KD_DEVICES", "KD_NODES", "KD_JOBS_PER_GPU"
EVENTS = "KD_TENSORBOARD"
DEFAULT_RAM_GIB, DEFAULT_DEVICE_GIB = 4.0, 1.0


def prefer_this_python() -> None:
    """Make `python` in the commands of rules the one that runs Snakemake, whether its environment is active or not."""
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def give_jobs(ram_gib: float, device_gib: float, *, jobs_per_gpu: int, events: bool) -> None:
    """Tell the jobs that this process starts how much data each may keep in main memory and on the device, in GiB.

    And how many may share a GPU, and whether trainings write event files for TensorBoard. Through the environment, not
    in their specs: it must change neither what they compute nor their keys.
    """
    given = {RAM: ram_gib, DEVICE: device_gib, JOBS_PER_GPU: jobs_per_gpu, EVENTS: "1" if events else ""}
    os.environ.update({name: str(value) for name, value in given.items()})


def memory_budget() -> tuple[int, int]:
    """Bytes of data that this job may keep between epochs, in main memory and on the device."""
    given = (os.environ.get(RAM, DEFAULT_RAM_GIB), os.environ.get(DEVICE, DEFAULT_DEVICE_GIB))
    ram, device = (int(float(each) * 2**30) for each in given)
    return ram, device


def main_memory() -> int:
    """Bytes of main memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def events_wanted() -> bool:
    """Whether trainings write event files for TensorBoard."""
    return bool(os.environ.get(EVENTS))


def jobs_per_gpu() -> int:
    """Jobs that may share a GPU."""
    return int(os.environ.get(JOBS_PER_GPU, "1"))


def give_devices(devices: int, nodes: int) -> None:
    """Tell this process, and those it starts to share its work, on how many devices of how many nodes it computes."""
    os.environ.update({DEVICES: str(devices), NODES: str(nodes)})
    threads = os.environ.get("OMP_NUM_THREADS")
    if devices > 1 and threads is not None and not started_by_srun() and "LOCAL_RANK" not in os.environ:
        os.environ["OMP_NUM_THREADS"] = str(max(1, int(threads) // devices))


def device_count() -> int:
    """GPUs on each node; 0: the CPU."""
    return int(os.environ.get(DEVICES, "1"))


def node_count() -> int:
    """Nodes that one training runs on."""
    return int(os.environ.get(NODES, "1"))


def started_by_srun() -> bool:
    """Whether Slurm started all processes of a training; otherwise the first one starts the others."""
    return int(os.environ.get("SLURM_NTASKS", "1")) > 1 and "SLURM_PROCID" in os.environ


def slurm_step() -> str:
    """The step of a Slurm job that this process is one of; a job that is requeued has another one."""
    return ".".join(os.environ.get(f"SLURM_{name}", "0") for name in ("JOB_ID", "RESTART_COUNT", "STEP_ID"))


def is_follower() -> bool:
    """Whether this process is not the first of those that share one training, but one that only computes with it."""
    if max(1, device_count()) * node_count() == 1:
        return False
    return int(os.environ["SLURM_PROCID"] if started_by_srun() else os.environ.get("LOCAL_RANK", "0")) > 0


def visible_devices() -> list[str]:
    """GPUs as CUDA_VISIBLE_DEVICES names them: by number, UUID or part (MIG); unset: all that the driver lists.

    torch is not asked, since importing it takes seconds.
    """
    given = os.environ.get(VISIBLE)
    if given is None:
        return [str(number) for number in range(len(list(DRIVER.glob("*"))))]
    devices: list[str] = []
    for each in filter(None, (part.strip() for part in given.split(","))):
        if each.startswith("-"):  # CUDA, too, takes what stands before a device that cannot be
            break
        devices.append(each)
    return devices
