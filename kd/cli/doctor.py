"""`python -m kd doctor`: is this machine fit to run the workflow, and if not, what to do."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from kd.artefacts.disk import free_space
from kd.artefacts.lock import lock_file
from kd.cli.forecast import readable
from kd.jobs.environment import DRIVER, VISIBLE, main_memory, visible_devices
from kd.planning.plan import Plan

ROOT = Path(__file__).parent.parent.parent
PYTHON = (3, 11)
LITTLE_SPACE, FEW_INODES = 5 << 30, 10_000
SLURM_SECONDS = 3  # to wait for an answer


class Finding(NamedTuple):
    """One line of the report."""

    state: Literal["ok", "warning", "error"]
    text: str


def doctor(plan: Plan) -> Iterator[Finding]:
    """Check everything that a run of a config takes, in seconds."""
    for check in (_python(), _packages(), _torch(), _results(plan.config.results), _weights_cache(), _slurm()):
        yield from check


def _python() -> Iterator[Finding]:
    version = f"Python {sys.version.split()[0]} ({sys.executable})"
    if sys.version_info < PYTHON:
        yield Finding("error", f"{version}: at least {'.'.join(map(str, PYTHON))} is needed")
    else:
        yield Finding("ok", version)


def _packages() -> Iterator[Finding]:
    """Installed versions against the pins, which a checkout has."""
    path = ROOT / "envs/requirements.txt"
    if not path.is_file():
        yield Finding("ok", f"kd {importlib.metadata.version('kd')}, installed as a package")
        return
    pins = dict(re.findall(r"^([A-Za-z0-9-]+)(?:\[\w+\])?==(\S+)$", path.read_text(), re.MULTILINE))
    missing, others = [], []
    for name, wanted in pins.items():
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
            continue
        if found.split("+")[0] != wanted:
            others.append(f"{name} {found} (pinned: {wanted})")
    if missing:
        yield Finding("error", f"not installed: {', '.join(missing)}; pip install -r envs/requirements.txt")
    if others:
        yield Finding("warning", f"other versions than were tested: {', '.join(others)}")
    if not missing and not others:
        yield Finding("ok", f"{len(pins)} packages in the versions that are pinned")


def _torch() -> Iterator[Finding]:
    """Whether torch can use the GPUs that the driver lists."""
    import torch

    cores = len(os.sched_getaffinity(0))
    yield Finding("ok", f"{cores} CPU cores, {readable(main_memory())} of main memory")
    built = f"torch {torch.__version__}, built for " + (
        f"CUDA {torch.version.cuda}" if torch.version.cuda else "the CPU"
    )
    listed = len(list(DRIVER.glob("*")))
    if not listed:
        yield Finding("warning", f"{built}: this machine has no GPU, everything will run on the CPU")
        return
    version = re.search(r"Module\s+(\S+)", (DRIVER.parent / "version").read_text())
    driver = f"driver {version[1] if version else '?'} with {listed} GPUs"
    if not torch.version.cuda:
        yield Finding("error", f"{built}, but {driver} is there; install a torch that is built for CUDA")
    elif not visible_devices():
        yield Finding("warning", f"{built}, {driver}, but {VISIBLE} hides them all")
    elif not torch.cuda.is_available():
        yield Finding("error", f"{built}, {driver}, but torch cannot use it; is the driver older than that CUDA?")
    else:
        for number in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(number)
            yield Finding("ok", f"{built}, {driver}: {properties.name}, {readable(properties.total_memory)}")


def _results(results: Path) -> Iterator[Finding]:
    """Space, permission, and what locks and links need."""
    free = free_space(results)
    space = f"results ({results}): {readable(free.bytes)} free in {free.folder}"
    little = free.bytes < LITTLE_SPACE or (free.inodes is not None and free.inodes < FEW_INODES)
    inodes = "" if free.inodes is None else f" and {free.inodes:,} files"
    advice = "; `python -m kd forecast` says what a config takes" if little else ""
    yield Finding("warning" if little else "ok", f"{space}{inodes}{advice}")
    try:
        with tempfile.TemporaryDirectory(dir=free.folder, prefix=".kd-doctor-") as name:
            first = Path(name, "first")
            with first.open("w") as stream:
                locks = lock_file(stream)
            links = _has_links(first)
    except OSError as error:
        yield Finding(
            "error", f"{free.folder}: {os.strerror(error.errno or 0).lower()}; set `results` to another folder"
        )
        return
    yield Finding("ok", f"{free.folder} can be written to")
    if not locks:
        yield Finding("warning", f"{free.folder} has no file locks: one writer is kept to by heartbeat alone")
    if not links:
        yield Finding("warning", f"{free.folder} has no hard links: what is adopted or grows is copied")


def _has_links(path: Path) -> bool:
    try:
        os.link(path, path.with_name("second"))
    except OSError:
        return False
    return True


def _weights_cache() -> Iterator[Finding]:
    """The folder in which timm's pretrained weights lie."""
    from huggingface_hub.constants import HF_HUB_CACHE

    if os.access(free_space(Path(HF_HUB_CACHE)).folder, os.W_OK):
        yield Finding("ok", f"pretrained weights go to {HF_HUB_CACHE}")
    else:
        yield Finding(
            "warning", f"pretrained weights cannot be stored in {HF_HUB_CACHE}; set HF_HOME to another folder"
        )


def _slurm() -> Iterator[Finding]:
    """Whether jobs can be submitted."""
    plugin = importlib.util.find_spec("snakemake_executor_plugin_slurm") is not None
    if shutil.which("sbatch") is None:
        if plugin:
            yield Finding("ok", "Snakemake's plugin for Slurm is there, Slurm is not")
        return
    if not plugin:
        yield Finding("warning", "Slurm is here, Snakemake's plugin for it is not; pip install -r envs/slurm.txt")
    try:
        done = subprocess.run(
            ["sinfo", "--noheader", "--format", "%R"], capture_output=True, text=True, timeout=SLURM_SECONDS, check=True
        )
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError):
        yield Finding(
            "warning", "Slurm's controller does not answer; with the plugin, every start of Snakemake waits for it"
        )
        return
    partitions = sorted(set(done.stdout.split()))
    yield Finding("ok", f"Slurm answers; partitions: {', '.join(partitions)}")
    if "SLURM_CONF" in os.environ:
        yield Finding("warning", "SLURM_CONF is set, and is not handed on to job steps; unset it, or use /etc/slurm")
