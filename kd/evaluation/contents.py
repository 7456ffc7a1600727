"""Which tables and figures only some runs have. Imports no pandas: the workflow asks before there is anything."""

from __future__ import annotations

import json
from pathlib import Path

from kd.digest import code_digests
from kd.jobs.job import artefact_key
from kd.plan import Plan

MULTI_LABEL_TABLES = ("multilabel.csv", "multilabel.md", "per_class.csv", "per_class.md")
PAPER_TABLES = ("papers.csv", "papers.md")
OPTIONAL_TABLES = (*MULTI_LABEL_TABLES, "multilabel.html", *PAPER_TABLES, "papers.html")
OPTIONAL_FIGURES = ("sensitivity", "attention")


def is_multi_label(plan: Plan) -> bool:
    """Whether any dataset is; then there are tables of all metrics, and of each class."""
    return any(job.spec["task"] == "multi_label" for job in plan.stage("prepare_dataset"))


def is_swept(plan: Plan) -> bool:
    """Whether any option is; then there is a figure of its sensitivity."""
    return any(row.variant for row in plan.rows)


def optional_tables(plan: Plan) -> list[str]:
    """Those of `OPTIONAL_TABLES` that a run has, but for pages of the report."""
    papers = PAPER_TABLES if plan.config.reports.papers else ()
    return [*(MULTI_LABEL_TABLES if is_multi_label(plan) else ()), *papers]


def optional_pages(plan: Plan) -> list[str]:
    """Pages of the report, by the names of their captions."""
    return ["multilabel"] * is_multi_label(plan) + ["papers"] * bool(plan.config.reports.papers)


def optional_figures(plan: Plan) -> list[str]:
    """Those of `OPTIONAL_FIGURES` that a run has."""
    return ["sensitivity"] * is_swept(plan) + ["attention"] * (plan.config.reports.attention is not None)


def config_json(plan: Plan) -> str:
    """The whole config, in its own order: where nobody names a teacher, it is the first one of the dataset."""
    return json.dumps(plan.config.model_dump(mode="json"))


def key_file(plan: Plan, folder: str, stage: str) -> Path:
    """Says by its name which config and code the plainly named files of a folder were made by.

    Args:
        plan: of the run.
        folder: `tables` or `figures`.
        stage: module of `kd.stages` that writes them.
    """
    made_from = [config_json(plan), [job.key for job in plan.jobs.values()]]
    key = artefact_key(stage, made_from, {}, code_digests(f"kd.stages.{stage}"))
    return plan.folder / folder / f"{key}.key"
