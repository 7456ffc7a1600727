"""Concrete GPUs for the jobs of one machine: Snakemake's resource `gpu` only counts them.

Every slot of a device is a file that a job holds with `flock` for as long as it lives, so that a slot is free again
when its holder dies, however it dies. The files lie where all jobs of a user on a host find them, however these were
started: neither the login nor the environment decides. Jobs of other users are not seen.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import stat
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from kd.common.errors import UserError
from kd.jobs.environment import DRIVER, VISIBLE, jobs_per_gpu, visible_devices

FOLDERS = Path("/tmp")  # not TMPDIR, which differs between logins; what lies there is checked
POLL_SECONDS = 0.2
SMI_SECONDS = 10
EXPECTED = "a folder of your own with mode 700, in which GPUs are leased; have it removed"

log = logging.getLogger("kd")
_held: list[int] = []  # descriptors of this process: its slots, and the folder


def lease(count: int) -> list[str]:
    """Have `count` of the GPUs that this process may see for itself, and see no others, for the rest of its life.

    On a machine without GPUs, and for a job that wants none, nothing is waited for. What Slurm gave to the job is
    taken as it is if it is just what the job wants; in a larger allocation jobs share it out among them.

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


def _open_folder() -> int:
    """A descriptor of the folder that the slots of this user lie in; a Slurm job has one of its own.

    (GPUs may be numbered from 0 in every Slurm job.)

    Raises:
        UserError: something else has its name, or it is another user's or open to others.
    """
    job = re.sub(r"[^A-Za-z0-9]", "_", os.environ.get("SLURM_JOB_ID", ""))
    path = FOLDERS / f"kd-gpus-{os.getuid()}{'-' + job if job else ''}"
    try:
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise UserError(f"{path}: {os.strerror(error.errno or 0).lower()}, expected {EXPECTED}") from error
    status = os.fstat(descriptor)
    if status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077:
        os.close(descriptor)
        mode = f"{stat.S_IMODE(status.st_mode):o}"
        raise UserError(f"{path}: is of user {status.st_uid} with mode {mode}, expected {EXPECTED}")
    fcntl.flock(descriptor, fcntl.LOCK_SH)  # so that systemd does not take it for old and remove what is in it
    return descriptor


def _open_file(folder: int, name: str) -> int:
    """A descriptor of a file of the folder, made if it is not there.

    Raises:
        UserError: something else has its name.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    where = Path(f"/proc/self/fd/{folder}").readlink() / name
    try:
        descriptor = os.open(name, flags, 0o600, dir_fd=folder)
    except OSError as error:
        raise UserError(f"{where}: {os.strerror(error.errno or 0).lower()}; remove it") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.getuid():
        os.close(descriptor)
        raise UserError(f"{where}: is no file of yours; remove it")
    return descriptor


def _take(visible: list[str], count: int) -> list[str]:
    """Wait until enough devices have a slot left, and hold one of each.

    One job waits for devices at a time, the others wait for their turn: so a job that wants two is not passed over
    for ever by jobs that want one, and none holds one device while it waits for another.

    Raises:
        UserError: the names mean fewer devices than are wanted, or the slots cannot be held.
    """
    devices: dict[str, str] = {}
    for identity, name in zip(identities(visible), visible, strict=True):
        devices.setdefault(identity, name)
    if count > len(devices):
        raise UserError(f"{count} GPUs are wanted, and {', '.join(visible)} are only {len(devices)}")
    folder = _open_folder()
    turn = _open_file(folder, "turn")
    told = False
    try:
        fcntl.flock(turn, fcntl.LOCK_EX)
        while True:
            found = _free_slots(folder, list(devices))
            mine = found[:count] if len(found) >= count else []
            for _, slot in found[len(mine) :]:
                os.close(slot)
            if mine:
                _held.extend([folder, *(slot for _, slot in mine)])
                return [devices[device] for device, _ in mine]
            if not told:
                log.info("waiting for %d of the GPUs %s", count, ", ".join(visible))
                told = True
            time.sleep(POLL_SECONDS)
    finally:
        os.close(turn)


def _free_slots(folder: int, devices: list[str]) -> list[tuple[str, int]]:
    """A free slot, now locked, of each device that has one; those with the fewest jobs first."""
    found: list[tuple[int, str, int]] = []
    for device in devices:
        mine: int | None = None
        taken = 0
        for number in range(jobs_per_gpu()):
            slot = _open_file(folder, f"{re.sub(r'[^A-Za-z0-9-]', '_', device)[:200]}.{number}")
            try:
                fcntl.flock(slot, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                taken += 1
                os.close(slot)
                continue
            if mine is None:
                mine = slot
            else:
                os.close(slot)
        if mine is not None:
            found.append((taken, device, mine))
    found.sort(key=lambda each: each[0])
    return [(device, slot) for _, device, slot in found]


def identities(names: list[str]) -> list[str]:
    """For each name (number, UUID, MIG part, or the beginning of one) the full UUID; the name where that is unknown.

    Numbers count the GPUs in the order of the PCI bus, as nvidia-smi does. Unless CUDA_DEVICE_ORDER says so, CUDA puts
    the fastest first: then a number is only known where all GPUs are of one model. torch is not asked, since importing
    it takes seconds.
    """
    cards = sorted(each for each in DRIVER.glob("*") if each.is_dir())
    described = [(each / "information").read_text() for each in cards if (each / "information").is_file()]
    uuids = [_field(text, "GPU UUID") for text in described]
    models = {_field(text, "Model") for text in described}
    numbered = len(models) == 1 or os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    parts = _mig_parts() if any(name.startswith("MIG-") for name in names) else []
    return [_identity(name, uuids if numbered else [], [*uuids, *parts]) for name in names]


def _identity(name: str, by_number: list[str], known: list[str]) -> str:
    if name.isdecimal():
        return by_number[int(name)] if int(name) < len(by_number) else name
    found = {uuid for uuid in known if uuid.startswith(name)}
    return found.pop() if len(found) == 1 else name


def _field(information: str, name: str) -> str:
    """A line `Name: value` of what the driver says of a GPU."""
    found = re.search(rf"^{name}:\s*(.+?)\s*$", information, re.MULTILINE)
    return found[1] if found else ""


def _mig_parts() -> list[str]:
    """UUIDs of parts of GPUs, which only nvidia-smi lists."""
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=SMI_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return re.findall(r"UUID: (MIG-[^)]+)\)", done.stdout)
