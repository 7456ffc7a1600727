"""Run Snakemake on the tiny config, as a user would, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from kd.jobs.preloaded import PRELOADED, given, preload
from kd.jobs.start import ADDRESS
from tests.conftest import ROOT
from tests.workflow.controller import SNAKEMAKE


def snakemake(
    directory: Path, *arguments: str, config: dict[str, Any] | None = None, checkout: Path = ROOT, share: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run in `directory` with results below it; for `config`, `checkout` and `share` see `started`."""
    running = started(directory, *arguments, config=config, checkout=checkout, share=share)
    printed, _ = running.communicate()
    return subprocess.CompletedProcess(running.args, running.returncode, printed)


def started(
    directory: Path,
    *arguments: str,
    config: dict[str, Any] | None = None,
    checkout: Path = ROOT,
    own_group: bool = False,
    share: bool = True,
) -> subprocess.Popen[str]:
    """As `snakemake`, without waiting for its end.

    Args:
        directory: where it runs.
        arguments: of Snakemake.
        config: None: the one of the last run.
        checkout: the code.
        own_group: signals to its process group meet no one else.
        share: jobs are forked from one process for all runs of this session, not from one that this run starts; and so
            is Snakemake itself.
    """
    path = directory / "config.yaml"
    if config is not None:
        path.write_text(yaml.safe_dump(config, sort_keys=False))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    module = ["snakemake"]
    if share:
        seen = tuple(sorted(given(environment).items()))
        environment |= preloaded(joined(checkout), seen, PRELOADED)
        if not own_group:  # signals are for the whole group, of which a fork is none
            module = [
                "kd.jobs.start",
                "tests.workflow.controller",
                environment[ADDRESS],
                os.environ.get("PYTHONPATH", ""),
            ]
            places = joined(checkout, ROOT)
            environment |= preloaded(places, seen, SNAKEMAKE) | {"PYTHONPATH": places}
    command = [sys.executable, "-m", *module, "--snakefile", str(checkout / "Snakefile"), "--configfile", str(path)]
    return subprocess.Popen(
        [*command, "--directory", str(directory), "--cores", "2", *arguments],
        cwd=checkout,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=own_group,
    )


@cache
def preloaded(places: str, environment: tuple[tuple[str, str], ...], modules: tuple[str, ...]) -> dict[str, str]:
    """Variables that say where to fork from what has imported modules: one process for all in an environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ.keys() - dict(environment).keys():
            patch.delenv(name)
        patch.chdir(places.partition(os.pathsep)[0])  # its own folder is where Python looks first
        return preload(places, modules)


def joined(*folders: Path) -> str:
    """PYTHONPATH with some folders ahead of those that it has."""
    return os.pathsep.join(filter(None, [*map(str, folders), os.environ.get("PYTHONPATH")]))


def wait_until(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Look again and again; `what` is said if it is in vain."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.1)


def jobs(output: str) -> dict[str, int]:
    """Rules and how many jobs of each, from the statistics that Snakemake prints first."""
    if "Job stats:" not in output:
        return {}
    table = output.split("Job stats:")[1].split("\n\n", maxsplit=1)[0].strip().splitlines()[2:]
    counts = {line.split()[0]: int(line.split()[1]) for line in table}
    return {rule: count for rule, count in counts.items() if rule not in ("all", "total")}
