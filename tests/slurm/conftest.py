"""A Slurm to submit to: the one that is there, or one of a single node, where it can be started."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "single-node.sh"
PLUGIN = "snakemake_executor_plugin_slurm"


def missing() -> str | None:
    """Why no Slurm can be had here."""
    if importlib.util.find_spec(PLUGIN) is None:
        return "needs Snakemake's plugin for Slurm: pip install -r envs/slurm.txt"
    if shutil.which("slurmctld") is None:
        return "needs Slurm: apt-get install slurm-wlm munge"
    return None if os.geteuid() == 0 else "only root can start a Slurm"


@pytest.fixture(scope="session")
def slurm() -> Iterator[None]:
    """One for all tests."""
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    if Path("/etc/slurm/slurm.conf").exists() and Path("/etc/slurm/slurm.conf").read_text().find("kd-slurm") < 0:
        pytest.skip("a Slurm is configured here that is not ours")
    folder = Path("/tmp/kd-slurm")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    subprocess.run([SCRIPT, "up", folder], check=True, timeout=120)
    yield
    subprocess.run([SCRIPT, "down", folder], check=True, timeout=60)
