"""What benchmarks share: images of noise, the jobs of a config, and processes whose memory is measured."""

from __future__ import annotations

import ctypes
import functools
import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
import pandas as pd
import timm
import torch
import yaml
from PIL import Image

from benchmarks.rows import ROOT, seconds
from kd.artefacts.job import Job
from kd.config.load import load_config
from kd.data import order
from kd.planning.plan import Plan
from tests.conftest import make

P = ParamSpec("P")
T = TypeVar("T")

CLASSES = 10
OTHERS = 40  # images of val, and of test
WINDOW_BYTES = 32 << 20  # of an epoch that is streamed, where memory is measured


def noise_dataset(folder: Path, train: int, size: int) -> dict[str, Any]:
    """A dataset for a config: RGB images of noise, in `CLASSES` classes.

    Args:
        folder: where the image files go.
        train: training images; `OTHERS` more are written for val and as many for test.
        size: pixels of an edge.
    """
    random = np.random.default_rng(0)
    for number in range(train + 2 * OTHERS):
        path = folder / f"class{number % CLASSES}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(path)
    split = {"train": train, "val": OTHERS, "test": OTHERS}
    return {"source": {"type": "image_folder", "root": str(folder)}, "image_size": size, "split": split}


def untrained_weights(path: Path, architecture: str) -> dict[str, str]:
    """Weights for a model of a config, brought along: time and memory do not depend on what a teacher has learnt."""
    torch.manual_seed(0)
    torch.save(timm.create_model(architecture, num_classes=CLASSES).state_dict(), path)
    return {"path": str(path)}


def demo() -> dict[str, Any]:
    """The config of the demo."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    return config


def snakemake(folder: Path, *arguments: str) -> str:
    """Run the workflow in a folder; what it prints.

    Raises:
        RuntimeError: it fails; with all that it prints.
    """
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    done = subprocess.run([*command, *arguments], check=False, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(f"{' '.join([*command, *arguments])}: {done.stdout}{done.stderr}")
    return done.stdout


def make_plan(folder: Path, config: dict[str, Any]) -> Plan:
    """The plan of a config whose results lie in a folder."""
    return Plan(load_config(config | {"results": str(folder / "results")}))


def make_stages(plan: Plan, *stages: str) -> None:
    """Run all jobs of these stages in this process."""
    for stage in stages:
        for job in plan.stage(stage):
            make(job)


def job_of(plan: Plan, stage: str, name: str) -> Job:
    """The one job of a stage whose name begins so."""
    (job,) = [job for job in plan.stage(stage) if job.name.startswith(name)]
    return job


def seconds_of(job: Job) -> float:
    """Seconds that a job takes, with its lock, checksums and manifest; what it made before is dropped first."""
    shutil.rmtree(job.directory, ignore_errors=True)
    return seconds(lambda: make(job))


def epoch_seconds(job: Job) -> pd.Series:
    """Seconds of each epoch of a finished training, as the training loop records them, with its validation."""
    return pd.read_csv(job.directory / "history.csv")["seconds"]


def in_own_process(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function of a module in a process that does nothing else.

    It is a fork of a server that has only imported libraries, so it starts in a moment, and with little memory.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.jobs", "kd.training.students", "kd.embeddings.store"])
    threads = torch.get_num_threads()
    with ProcessPoolExecutor(1, context, initializer=torch.set_num_threads, initargs=(threads,)) as pool:
        return pool.submit(work, *args, **kwargs).result()


def peak(work: Callable[[], object]) -> tuple[float, float]:
    """MiB that this process has in main memory before some work and at most meanwhile; from /proc, so on Linux only."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    before = _resident("VmRSS")
    work()
    return before, _resident("VmHWM")


def _resident(what: str) -> float:
    (line,) = [each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith(what)]
    return int(line.split()[1]) / 1024


def streamed_peak(job: Job) -> float:
    """Peak MiB of a job that may keep no data in memory; call it `in_own_process`.

    Two windows of an epoch are in memory at once; they are smaller here, so that there are several for few data, too.
    """
    os.environ |= {"KD_RAM_GIB": "0", "KD_DEVICE_GIB": "0"}
    order.WINDOW_BYTES = WINDOW_BYTES
    return peak(functools.partial(make, job))[1]
