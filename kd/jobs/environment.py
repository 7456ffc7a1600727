"""The environment that jobs run in."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def prefer_this_python() -> None:
    """Make `python` in the commands of rules the one that runs Snakemake, whether its environment is active or not."""
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def gpu_count() -> int:
    """NVIDIA GPUs of this machine, as its driver lists them; asking torch would take seconds."""
    return len(list(Path("/proc/driver/nvidia/gpus").glob("*")))
