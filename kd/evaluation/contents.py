"""Which tables and figures only some runs have. Imports no pandas: the workflow asks before there is anything."""

from __future__ import annotations

from kd.plan import Plan

MULTI_LABEL_TABLES = ("multilabel.csv", "multilabel.md", "per_class.csv", "per_class.md")
MULTI_LABEL_PAGES = ("multilabel.html",)
SENSITIVITY_FIGURES = ("sensitivity",)


def is_multi_label(plan: Plan) -> bool:
    """Whether any dataset is; then there are `MULTI_LABEL_TABLES` and `MULTI_LABEL_PAGES`."""
    return any(job.spec.get("task") == "multi_label" for job in plan.stage("prepare_dataset"))


def is_swept(plan: Plan) -> bool:
    """Whether any option is; then there are `SENSITIVITY_FIGURES`."""
    return any(row.variant for row in plan.rows)
