"""Draw the figures of a finished run from its tables and training histories."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd

from kd.evaluation.figures import accuracy_figure, cache_figure, cost_figure, curves_figure, save
from kd.jobs.run import user_errors
from kd.plan import Plan
from kd.stages.tabulate import options_from_command_line, plainly_named

log = logging.getLogger("kd")


def draw_figures(plan: Plan, key: Path) -> None:
    """Write accuracy, training curves, cost and caches; then `key`, which says that they are of this run."""
    config = plan.config
    tables, figures = config.results / "tables", config.results / "figures"
    table = pd.read_csv(tables / "summary.csv", dtype={"level": str}).fillna({"level": ""})
    title, suffix = config.reports.title, config.reports.format
    drawn = {
        "accuracy": accuracy_figure(table, title, config.reports.selection),
        "training_curves": curves_figure(plan.rows, title),
        "cost": cost_figure(pd.read_csv(tables / "cost.csv"), title),
        "cache": cache_figure(pd.read_csv(tables / "cache.csv", dtype={"views": str}), title),
    }
    with plainly_named(figures, key):
        for name, figure in drawn.items():
            save(figure, figures / f"{name}.{suffix}")


if __name__ == "__main__":
    with user_errors():
        draw_figures(*options_from_command_line(__doc__))
