"""What it takes to start a job on a workstation, forked from a process that has imported what jobs import.

    python -m benchmarks.start_up [--small]

One job finds its artefact built, and computes nothing but its checksums; one trains a network on 60 images, twice over.
The references are the same jobs in processes of their own, which import everything themselves, started in turn. Two
commands that compute nothing are measured, too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from unittest.mock import patch

from benchmarks.jobs import make_plan, make_stages
from benchmarks.planning import config
from benchmarks.rows import ROOT, Row, main, seconds
from kd.artefacts.job import Job
from kd.jobs.handover import hand_over, job_file
from kd.jobs.preloaded import preload

ROUNDS = 20


def start(job: Job, environment: dict[str, str]) -> None:
    """As the rules do."""
    command = [sys.executable, "-m", "kd.jobs.start", f"kd.stages.{job.stage}", "--job", str(job_file(job))]
    subprocess.run(command, check=True, env=os.environ | environment, stderr=subprocess.DEVNULL)


def start_anew(job: Job, environment: dict[str, str]) -> None:
    """With nothing there."""
    shutil.rmtree(job.directory, ignore_errors=True)
    start(job, environment)


def measure(*, small: bool = False) -> list[Row]:
    """Seconds of each."""
    rows = []
    with tempfile.TemporaryDirectory() as name, patch.dict(os.environ, PYTHONPATH=str(ROOT)):
        plan = make_plan(Path(name), config(("a",), 1))
        make_stages(plan, "prepare_dataset")
        (job,) = plan.stage("train_teacher")
        hand_over(job_file(job), job.model_dump_json())
        forked = preload(str(ROOT))
        start(job, forked)  # waits for the imports
        for what, work in (("a job that finds its artefact built", start), ("a short training", start_anew)):
            pairs = [
                (seconds(partial(work, job, forked)), seconds(partial(work, job, {})))
                for _ in range(1 if small else ROUNDS)
            ]
            quick, alone = zip(*pairs, strict=True)
            rows += [
                Row(f"{what}, from its start to its end", "", quick, "s"),
                Row(f"{what}, the same in a process of its own", "", alone, "s"),
            ]
    for argument in ("--help", "methods"):
        command = partial(
            subprocess.run, [sys.executable, "-m", "kd", argument], check=True, capture_output=True, cwd=ROOT
        )
        times = [seconds(command) for _ in range(1 if small else ROUNDS)]
        rows.append(Row(f"`python -m kd {argument}`, from its start to its end", "", times, "s"))
    return rows


if __name__ == "__main__":
    main(measure)
