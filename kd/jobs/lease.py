"""Concrete GPUs for the jobs of one machine: Snakemake's resource `gpu` only counts them.

Every slot of a device is a file that a job holds with `flock` for as long as it lives, so that a slot is free again
when its holder dies, however it dies.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import tempfile
import time
from pathlib import Path
from typing import IO

from kd.jobs.environment import VISIBLE, jobs_per_gpu, visible_devices
from kd.jobs.errors import UserError

POLL_SECONDS = 0.2

log = logging.getLogger("kd")
_held: list[IO[str]] = []  # slots of this process


def lease(count: int) -> list[str]:
    """Have some of the GPUs that this process may see for itself, and see no others, for the rest of its life.

    On a machine without GPUs, and for a job that wants none, nothing is waited for. What Slurm gave to the job is
    taken as it is if it is just what the job wants; in a larger allocation jobs share it out among them.

    Args:
        count: devices wanted.

    Raises:
        UserError: this process may see fewer.
    """
    visible = visible_devices()
    if visible and count > len(visible):
        raise UserError(
            f"{count} GPUs are wanted (config resources, gpus) and this process may see {len(visible)}:"
            f" {', '.join(visible)}"
        )
    if not visible or count == 0:
        devices = []
    elif _held or ("SLURM_JOB_ID" in os.environ and count == len(visible)):
        devices = visible
    else:
        devices = _take(visible, count)
    if devices:
        log.info("GPU %s", ", ".join(devices))
    os.environ[VISIBLE] = ",".join(devices)
    return devices


def lease_folder() -> Path:
    """Where the slots of this host and user lie, on a local disk.

    A Slurm job has its own: GPUs may be numbered from 0 in every job.
    """
    base = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    job = os.environ.get("SLURM_JOB_ID")
    folder = base / f"kd-gpus-{os.getuid()}{'-' + job if job else ''}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _take(visible: list[str], count: int) -> list[str]:
    """Wait until enough devices have a slot left, and hold one of each.

    One job waits for devices at a time, the others wait for their turn: so a job that wants two is not passed over
    for ever by jobs that want one, and none holds one device while it waits for another.
    """
    folder = lease_folder()
    told = False
    with (folder / "turn").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        while True:
            found = _free_slots(folder, visible)
            if len(found) >= count:
                for _, stream in found[count:]:
                    stream.close()
                _held.extend(stream for _, stream in found[:count])
                return [device for device, _ in found[:count]]
            for _, stream in found:
                stream.close()
            if not told:
                log.info("waiting for %d of the GPUs %s", count, ", ".join(visible))
                told = True
            time.sleep(POLL_SECONDS)


def _free_slots(folder: Path, visible: list[str]) -> list[tuple[str, IO[str]]]:
    """A free slot, now locked, of each device that has one; those with the fewest jobs first."""
    found: list[tuple[int, str, IO[str]]] = []
    for device in dict.fromkeys(visible):
        mine: IO[str] | None = None
        taken = 0
        for slot in range(jobs_per_gpu()):
            stream = (folder / f"{re.sub(r'[^A-Za-z0-9-]', '_', device)}.{slot}").open("w")
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                taken += 1
                stream.close()
                continue
            if mine is None:
                mine = stream
            else:
                stream.close()
        if mine is not None:
            found.append((taken, device, mine))
    found.sort(key=lambda each: each[0])
    return [(device, stream) for _, device, stream in found]
