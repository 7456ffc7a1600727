"""The Slurm that tests submit to: one must answer, such as that of tests/slurm/single-node.sh."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess

import pytest

PLUGIN = "snakemake_executor_plugin_slurm"


def missing() -> str | None:
    """Why no jobs can be submitted here."""
    if importlib.util.find_spec(PLUGIN) is None:
        return "needs Snakemake's plugin for Slurm: pip install -r envs/slurm.txt"
    if shutil.which("sinfo") is None:
        return "needs Slurm: apt-get install slurm-wlm munge"
    answered = subprocess.run(["sinfo"], capture_output=True, check=False).returncode == 0
    return None if answered else "needs a Slurm that answers: tests/slurm/single-node.sh up FOLDER, as root"


@pytest.fixture(scope="session")
def slurm() -> None:
    """One for all tests, and for all of pytest's processes."""
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
