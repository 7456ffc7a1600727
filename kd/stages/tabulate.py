"""Write the tables of a finished run."""

from __future__ import annotations

import argparse
import html
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from kd.config import load_config
from kd.evaluation.caches import cache_table
from kd.evaluation.tables import cost, markdown, measurements, readable, summary
from kd.jobs.files import write_text
from kd.jobs.job import Job
from kd.jobs.lock import writing
from kd.jobs.manifest import git_commit, library_versions, read_manifest
from kd.jobs.run import user_errors
from kd.plan import Plan

log = logging.getLogger("kd")

STYLE = "<style>body{font-family:sans-serif} td,th{padding:2px 8px} table{border-collapse:collapse}</style>"


def write_tables(plan: Plan, key: Path) -> None:
    """Write summary, single measurements, cost, caches and the index of artefacts; then `key`, of this run."""

    @cache
    def by_directory(directory: Path) -> dict[str, Any]:
        return read_manifest(plan.jobs[directory])

    def read(job: Job) -> dict[str, Any]:
        return by_directory(job.directory)

    measured = measurements(plan.rows, read)
    table = summary(measured, list(plan.config.datasets))
    short = readable(table, plan.config.reports.selection)
    title = f"test acc@1 in percent, mean ± std over seeds (gain), weights: {plan.config.reports.selection}"
    costs = cost(plan, read)
    caches = cache_table(plan, measured, plan.config.reports.selection, read)
    whole = table.to_html(index=False, na_rep="")
    page = f"<p>{title}</p>{short.to_html(index=False)}<p>All of it, gains with their standard errors:</p>{whole}"
    index = [{"stage": job.stage, "name": job.name, "directory": str(job.directory)} for job in plan.jobs.values()]
    texts = {
        "tables/measurements.csv": measured.to_csv(index=False),
        "tables/summary.csv": table.to_csv(index=False),
        "tables/summary.md": f"{title}\n\n{markdown(short)}",
        "tables/summary.html": STYLE + page,
        "tables/cost.csv": costs.to_csv(index=False),
        "tables/cost.html": STYLE + costs.to_html(index=False, na_rep=""),
        "tables/cache.csv": caches.to_csv(index=False),
        "tables/cache.html": STYLE + caches.to_html(index=False, na_rep=""),
        "tables/run.html": _run_page(plan),
        "index.csv": pd.DataFrame(index).to_csv(index=False),
    }
    with plainly_named(plan.config.results / "tables", key):
        for name, text in texts.items():
            write_text(plan.config.results / name, text)


@contextmanager
def plainly_named(folder: Path, key: Path) -> Iterator[None]:
    """Hold a folder whose files have plain names, the same for every run, while they are replaced.

    Args:
        folder: to be held; other controllers on the same results folder wait.
        key: written at last: it says which run the files are of. Those of other runs are removed first.
    """
    with writing(folder):
        for path in folder.glob("*.key"):
            if path.name != key.name:
                path.unlink()
        yield
        key.touch()


def _run_page(plan: Plan) -> str:
    """The config and the versions of the run, for the report."""
    config = yaml.safe_dump(plan.config.model_dump(mode="json"), sort_keys=False)
    versions = {"git commit": git_commit() or "not a git checkout"} | library_versions()
    lines = "".join(f"<tr><td>{name}</td><td>{version}</td></tr>" for name, version in versions.items())
    return f"{STYLE}<h3>Versions</h3><table>{lines}</table><h3>Config</h3><pre>{html.escape(config)}</pre>"


def options_from_command_line(description: str | None, *further_keys: str) -> argparse.Namespace:
    """`plan` of the config that a rule hands over as JSON, `key` and further key files."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--config", required=True, help="the config as JSON")
    for name in ("key", *further_keys):
        parser.add_argument(f"--{name.replace('_', '-')}", required=True, type=Path, help="file that names a run")
    options = parser.parse_args()
    options.plan = Plan(load_config(json.loads(options.config)))
    return options


if __name__ == "__main__":
    with user_errors():
        options = options_from_command_line(__doc__)
        write_tables(options.plan, options.key)
        log.info("tables written")
