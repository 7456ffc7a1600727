"""Which tables and figures only some runs have. Imports no pandas: the workflow asks before there is anything."""

from __future__ import annotations

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
