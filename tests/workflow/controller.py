"""Snakemake in a fork of a process that has imported it: run as `kd.jobs.start tests.workflow.controller ...`.

The first two arguments are for its own jobs, the process that these are forked from and their PYTHONPATH; the rest are
Snakemake's.
"""

from __future__ import annotations

import os
import runpy
import sys

from kd.jobs.start import ADDRESS

SNAKEMAKE = (
    *("snakemake.cli", "snakemake.workflow", "snakemake.dag", "snakemake.scheduling.greedy", "snakemake.report"),
    *("snakemake_interface_logger_plugins.registry", "snakemake_interface_storage_plugins.registry", "pydantic"),
)


if __name__ == "__main__":
    os.environ[ADDRESS], os.environ["PYTHONPATH"] = sys.argv.pop(1), sys.argv.pop(1)
    runpy.run_module("snakemake", run_name="__main__", alter_sys=True)
