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
from kd.evaluation.beside import beside_paper, readable_beside_paper
from kd.evaluation.caches import cache_table
from kd.evaluation.contents import OPTIONAL_TABLES, is_multi_label
from kd.evaluation.multilabel import metrics_side_by_side, per_class, readable_per_class, readable_side_by_side
from kd.evaluation.tables import cost, html_table, literal, markdown, measurements, primary_metrics, readable, summary
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

    selection = plan.config.reports.selection
    measured = measurements(plan.rows, read)
    table = summary(measured, list(plan.config.datasets))
    costs, caches = cost(plan, read), cache_table(plan, measured, selection, read)
    texts = _summary_texts(table, selection) | {
        "measurements.csv": measured.to_csv(index=False),
        "cost.csv": costs.to_csv(index=False),
        "cost.html": STYLE + html_table(costs),
        "cache.csv": caches.to_csv(index=False),
        "cache.html": STYLE + html_table(caches),
        "run.html": _run_page(plan),
    }
    if is_multi_label(plan):
        texts |= _multi_label_texts(table, per_class(plan.rows, read), selection)
    if plan.config.reports.papers:
        texts |= _paper_texts(plan, table)
    index = [{"stage": job.stage, "name": job.name, "directory": str(job.directory)} for job in plan.jobs.values()]
    folder = plan.config.results / "tables"
    with plainly_named(folder, key):
        for name in set(OPTIONAL_TABLES) - set(texts):
            (folder / name).unlink(missing_ok=True)  # of another run
        for name, text in texts.items():
            write_text(folder / name, text)
        write_text(plan.config.results / "index.csv", pd.DataFrame(index).to_csv(index=False))


def _summary_texts(table: pd.DataFrame, selection: str) -> dict[str, str]:
    """All of `summary`, and in short for people."""
    short = readable(table, selection)
    metrics = " or ".join(dict.fromkeys(primary_metrics(table).values()))
    title = f"test {metrics} in percent, mean ± std over seeds (gain), weights: {selection}"
    whole = html_table(table)
    page = f"<p>{title}</p>{html_table(short)}<p>All of it, gains with their standard errors:</p>{whole}"
    return {
        "summary.csv": table.to_csv(index=False),
        "summary.md": f"{title}\n\n{markdown(short)}",
        "summary.html": STYLE + page,
    }


def _multi_label_texts(table: pd.DataFrame, classes: pd.DataFrame, selection: str) -> dict[str, str]:
    """All metrics of multi-label datasets side by side, and the average precision of each class."""
    wide = metrics_side_by_side(table, selection)
    short = readable_side_by_side(wide)
    title = f"test metrics of multi-label datasets in percent, mean ± std over seeds, weights: {selection}"
    by_class = f"average precision on test in percent, mean over seeds, weights: {selection}"
    return {
        "multilabel.csv": wide.to_csv(index=False),
        "multilabel.md": f"{title}\n\n{markdown(short)}",
        "multilabel.html": f"{STYLE}<p>{title}</p>{html_table(short)}",
        "per_class.csv": classes.to_csv(index=False),
        "per_class.md": f"{by_class}\n\n{readable_per_class(classes, selection)}",
    }


def _paper_texts(plan: Plan, table: pd.DataFrame) -> dict[str, str]:
    """What papers print beside ours, experiment by experiment."""
    whole, short, page = [], "", STYLE
    for wanted in plan.config.reports.papers:
        experiment = wanted.experiment or plan.config.experiment
        compared = beside_paper(
            table,
            wanted.paper,
            wanted.where,
            experiment=experiment,
            dataset=wanted.dataset,
            selection=plan.config.reports.selection,
            differs=wanted.differs,
        )
        where = ", ".join(str(value) for value in wanted.where.values())
        whole.append(compared.assign(paper_experiment=f"{wanted.paper}: {where}", experiment=experiment))
        title = f"{experiment} on {wanted.dataset} beside {wanted.paper} ({where})"
        table_of_both = readable_beside_paper(compared)
        short += f"## {literal(title)}\n\n{markdown(table_of_both)}\n"
        page += f"<h3>{html.escape(title)}</h3>{html_table(table_of_both)}"
    return {"papers.csv": pd.concat(whole).to_csv(index=False), "papers.md": short, "papers.html": page}


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
