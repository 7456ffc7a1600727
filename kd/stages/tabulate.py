"""Write the tables of a finished run."""

from __future__ import annotations

import argparse
import html
import json
import logging
from collections.abc import Iterable, Iterator
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
from kd.evaluation.verdict import as_html, as_rst, verdict
from kd.jobs.files import write_text
from kd.jobs.handover import handed_over
from kd.jobs.job import Job
from kd.jobs.lock import writing
from kd.jobs.manifest import git_commit, library_versions, read_manifest
from kd.jobs.notes import notes_of
from kd.jobs.run import user_errors
from kd.jobs.signature import sign
from kd.plan import Plan

log = logging.getLogger("kd")

FRONT_PAGE = """\
Individual teachers, joint teachers that fuse their cached embeddings, and students distilled from them: test acc@1
(multi-label: mAP) with its gain over the student's network trained with labels alone, where the experiment has one,
else over the individual teacher of each dataset; and what it cost. Config, versions and what was left out of the data
are under *Provenance*.
"""
STYLE = "<style>body{font-family:sans-serif} td,th{padding:2px 8px} table{border-collapse:collapse}</style>"


def write_tables(plan: Plan, key: Path, configfile: str = "") -> None:
    """Write all tables, the index of artefacts, the config, and whose they are.

    Args:
        plan: of the run.
        key: written at last: it says which run the tables are of.
        configfile: that the run was started with.
    """

    @cache
    def by_directory(directory: Path) -> dict[str, Any]:
        return read_manifest(plan.jobs[directory])

    def read(job: Job) -> dict[str, Any]:
        return by_directory(job.directory)

    selection = plan.config.reports.selection
    measured = measurements(plan.rows, read)
    table = summary(measured, list(plan.config.datasets))
    costs, caches = cost(plan, read), cache_table(plan, measured, selection, read)
    told = verdict(plan, measured, read)
    texts = _summary_texts(table, selection, told) | {
        "front_page.rst": f"{as_rst(told)}\n\n{FRONT_PAGE}",
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
    folder = plan.folder / "tables"
    with plainly_named(folder, key):
        for name in set(OPTIONAL_TABLES) - set(texts):
            (folder / name).unlink(missing_ok=True)  # of another run
        for name, text in texts.items():
            write_text(folder / name, text)
        write_text(plan.folder / "index.csv", pd.DataFrame(index).to_csv(index=False))
        write_text(plan.folder / "config.yaml", _config_text(plan))
        sign(plan.folder, plan.config.experiment, configfile)


def _summary_texts(table: pd.DataFrame, selection: str, told: str) -> dict[str, str]:
    """All of `summary`; in short for people, below the verdict `told`."""
    short = readable(table, selection)
    metrics = " or ".join(dict.fromkeys(primary_metrics(table).values()))
    title = f"test {metrics} in percent, mean ± std over seeds (gain), weights: {selection}"
    whole = html_table(table)
    page = f"{as_html(told)}<p>{title}</p>{html_table(short)}<p>Gains with their standard errors:</p>{whole}"
    return {
        "summary.csv": table.to_csv(index=False),
        "summary.md": "\n\n".join(filter(None, [told, title, markdown(short)])),
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


def _config_text(plan: Plan) -> str:
    """The whole config, with defaults filled in."""
    text: str = yaml.safe_dump(plan.config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    return text


def _run_page(plan: Plan) -> str:
    """For the report: versions, what stages left out or changed, and the config."""
    versions = {"git commit": git_commit() or "not a git checkout"} | library_versions()
    notes = list(notes_of(plan.jobs.values()))
    page = f"{STYLE}<h3>Versions</h3>{_html_table(versions.items())}"
    if notes:
        page += f"<h3>Notes: what was left out or changed, and how often</h3>{_html_table(notes)}"
    return f"{page}<h3>Config</h3><pre>{html.escape(_config_text(plan))}</pre>"


def _html_table(rows: Iterable[Iterable[object]]) -> str:
    lines = ("".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) for row in rows)
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def command_line(description: str | None, *further_keys: str) -> argparse.ArgumentParser:
    """Options of what is made of a whole run: `config`, a file that the run hands over, `key` and further key files."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--config", required=True, type=Path, help="the config, as JSON in a file")
    for name in ("key", *further_keys):
        parser.add_argument(f"--{name.replace('_', '-')}", required=True, type=Path, help="file that names a run")
    return parser


def plan_of(config: Path) -> Plan:
    """The plan of a config that a run handed over."""
    return Plan(load_config(json.loads(handed_over("--config", config))))


if __name__ == "__main__":
    parser = command_line(__doc__)
    parser.add_argument("--configfile", default="", help="that the run was started with")
    options = parser.parse_args()
    with user_errors():
        write_tables(plan_of(options.config), options.key, options.configfile)
        log.info("tables written")
