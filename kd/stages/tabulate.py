"""Write the tables of a finished run."""

from __future__ import annotations

import argparse
import html
import json
import logging
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from kd.config import load_config
from kd.evaluation.tables import cost, markdown, measurements, readable, summary
from kd.jobs.job import Job
from kd.jobs.manifest import git_commit, library_versions, read_manifest
from kd.jobs.run import user_errors
from kd.plan import Plan

log = logging.getLogger("kd")

STYLE = "<style>body{font-family:sans-serif} td,th{padding:2px 8px} table{border-collapse:collapse}</style>"


def write_tables(plan: Plan) -> None:
    """Write summary, single measurements, cost and the index of artefacts."""

    @cache
    def by_directory(directory: Path) -> dict[str, Any]:
        return read_manifest(plan.jobs[directory])

    def read(job: Job) -> dict[str, Any]:
        return by_directory(job.directory)

    tables = plan.config.results / "tables"
    forget_keys(tables)
    measured = measurements(plan.rows, read)
    measured.to_csv(tables / "measurements.csv", index=False)
    table = summary(measured, list(plan.config.datasets))
    table.to_csv(tables / "summary.csv", index=False)
    short = readable(table, plan.config.reports.selection)
    title = f"test acc@1 in percent, mean ± std over seeds (gain), weights: {plan.config.reports.selection}"
    (tables / "summary.md").write_text(f"{title}\n\n{markdown(short)}")
    costs = cost(plan, read)
    costs.to_csv(tables / "cost.csv", index=False)
    whole = table.to_html(index=False, na_rep="")
    page = f"<p>{title}</p>{short.to_html(index=False)}<p>All of it, gains with their standard errors:</p>{whole}"
    (tables / "summary.html").write_text(STYLE + page)
    (tables / "cost.html").write_text(STYLE + costs.to_html(index=False, na_rep=""))
    (tables / "run.html").write_text(_run_page(plan))
    index = [{"stage": job.stage, "name": job.name, "directory": str(job.directory)} for job in plan.jobs.values()]
    pd.DataFrame(index).to_csv(plan.config.results / "index.csv", index=False)


def forget_keys(folder: Path) -> None:
    """Remove what says that the files of a folder are those of an earlier run; the workflow then writes its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.key"):
        path.unlink()


def _run_page(plan: Plan) -> str:
    """The config and the versions of the run, for the report."""
    config = yaml.safe_dump(plan.config.model_dump(mode="json"), sort_keys=False)
    versions = {"git commit": git_commit() or "not a git checkout"} | library_versions()
    lines = "".join(f"<tr><td>{name}</td><td>{version}</td></tr>" for name, version in versions.items())
    return f"{STYLE}<h3>Versions</h3><table>{lines}</table><h3>Config</h3><pre>{html.escape(config)}</pre>"


def plan_from_command_line(description: str | None) -> Plan:
    """The plan of the config that a rule hands over as JSON."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--config", required=True, help="the config as JSON")
    return Plan(load_config(json.loads(parser.parse_args().config)))


if __name__ == "__main__":
    with user_errors():
        write_tables(plan_from_command_line(__doc__))
        log.info("tables written")
