"""Jobs that are cut off and started again: the machinery of the tests and of the soak run.

`python -m tests.killing CONFIG --at KILL:3,TERM:5` makes every artefact of a config; each job gets SIGKILL before its
3rd rename, is started again and gets SIGTERM before its 5th, and is then left alone. `--kills 200` kills at random
moments instead, over as many rounds from nothing as that takes. Jobs are forked from one process that has imported
everything, so that signals meet work and not imports.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
import yaml

from kd.artefacts.job import Job
from kd.artefacts.manifest import MADE_FROM
from kd.cli.publish import publish
from kd.config.load import load_config
from kd.jobs.run import user_errors
from kd.jobs.stopping import listen
from kd.planning.plan import Plan
from kd.reporting import drawing  # noqa: F401 - imported once, not in each child
from kd.training import loop
from tests.conftest import make

# What tells of seconds and folders: the verdict, which begins three of these, says what trainings cost.
ABOUT_THE_RUN = (
    *("front_page.rst", "summary.md", "summary.html", "cost.csv", "cost.html", "run.html"),
    *("cost.svg", "run.json", "index.csv", "config.yaml"),
)


class Cut(NamedTuple):
    """A signal that a job gets before one of its renames."""

    signal: signal.Signals
    rename: int

    @classmethod
    def parse(cls, text: str) -> Cut:
        """Of `KILL:3`."""
        name, _, rename = text.partition(":")
        return cls(signal.Signals[f"SIG{name}"], int(rename))


def start(job: Job, cut: Cut | None = None) -> int:
    """Run a job in a child."""
    child = os.fork()
    if child:
        return child
    torch.set_num_threads(1)
    loop.CHECKPOINT_EVERY_SECONDS, loop.CHECKPOINT_COST = 0.0, math.inf
    listen()
    if cut is not None:
        _send_before_rename(cut)
    status: Any = 0
    try:
        with user_errors():
            make(job)
    except SystemExit as error:
        status = error.code
    os._exit(status)  # to take apart all that is imported takes longer than the job


def _send_before_rename(cut: Cut) -> None:
    replace, done = os.replace, 0

    def counted(*arguments: Any, **options: Any) -> None:
        nonlocal done
        done += 1
        if done == cut.rename:
            os.kill(os.getpid(), cut.signal)
        replace(*arguments, **options)

    os.replace = counted


def finished(child: int) -> bool:
    """Wait for a child: whether it came to its end; False: it was cut off."""
    status = os.waitpid(child, 0)[1]
    if os.waitstatus_to_exitcode(status) in (-signal.SIGKILL, 128 + signal.SIGTERM):
        return False
    if status:
        raise SystemExit(f"a job failed with status {status}")
    return True


def run_with_cuts(plan: Plan, cuts: list[Cut]) -> int:
    """Make everything; cut each job off before some of its renames. Returns how often that happened."""
    kills = 0
    for job in plan.jobs.values():
        for cut in cuts:
            kills += not finished(start(job, cut))
        assert finished(start(job))
    return kills


def run_with_random_kills(plan: Plan, wanted: int, seconds: dict[str, float], seed: int) -> int:
    """Make everything; spread `wanted` kills over the time that jobs take, at random moments."""
    moments = random.Random(seed)
    kills, jobs = 0, list(plan.jobs.values())
    total = sum(seconds[job.name] for job in jobs)
    owed = 0.0
    for job in jobs:
        owed += wanted * seconds[job.name] / total
        while kills < round(owed):
            child = start(job)
            time.sleep(moments.uniform(0, seconds[job.name]))
            os.kill(child, signal.SIGKILL)
            kills += 1
            if finished(child):
                kills -= 1
                break
        assert finished(start(job))
    return kills


def contents(results: Path) -> dict[str, str]:
    """What was computed: digest of every visible file of every artefact, by path; wall-clock times left out."""
    found = {}
    for path in sorted(results.rglob("*")):
        relative = path.relative_to(results)
        if (
            not path.is_file()
            or any(part.startswith(".") for part in relative.parts)
            or path.name in ABOUT_THE_RUN
            or path.suffix == ".key"
        ):
            continue
        if path.name == "manifest.json":
            manifest = json.loads(path.read_text())
            result = {name: value for name, value in manifest["result"].items() if name != MADE_FROM}
            content = json.dumps([manifest["key"], manifest["spec"], result]).encode()
        elif path.name == "history.csv":
            content = pd.read_csv(path).drop(columns="seconds").to_csv().encode()
        else:
            content = path.read_bytes()
        found[str(relative)] = hashlib.sha256(content).hexdigest()
    return found


def main() -> None:
    """Make everything twice, undisturbed and killed, and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--folder", type=Path, required=True, help="for both results folders")
    parser.add_argument("--at", default="", help="such as KILL:3,TERM:5: signals to each job, and before which rename")
    parser.add_argument("--kills", type=int, default=0, help="random kills, over all jobs")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    raw = yaml.safe_load(options.config.read_text())
    plans = {
        name: Plan(load_config(raw | {"results": str(options.folder / name)})) for name in ("undisturbed", "killed")
    }
    seconds = {}
    for job in plans["undisturbed"].jobs.values():
        started = time.monotonic()
        assert finished(start(job))
        seconds[job.name] = time.monotonic() - started
    publish(plans["undisturbed"], "tables")
    expected = contents(options.folder / "undisturbed")
    kills, rounds = 0, 0
    differing: set[str] = set()
    while not rounds or kills < options.kills:  # jobs that end before their kills leave some for another round
        shutil.rmtree(options.folder / "killed", ignore_errors=True)
        if options.kills:
            wanted, seed = options.kills - kills, options.seed + rounds
            kills += run_with_random_kills(plans["killed"], wanted, seconds, seed)
        else:
            kills += run_with_cuts(plans["killed"], [Cut.parse(each) for each in options.at.split(",")])
        rounds += 1
        publish(plans["killed"], "tables")
        found = contents(options.folder / "killed")
        differing |= {path for path in {*expected, *found} if expected.get(path) != found.get(path)}
    sys.stdout.write(f"{kills} kills, {len(expected)} files, {len(differing)} differ\n")
    sys.stdout.writelines(f"{path}\n" for path in sorted(differing))
    raise SystemExit(bool(differing))


if __name__ == "__main__":
    main()
