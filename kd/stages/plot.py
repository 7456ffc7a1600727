"""Draw the figures of a finished run from its tables and training histories."""

from __future__ import annotations

import logging

import pandas as pd

from kd.evaluation.figures import accuracy_figure, cost_figure, curves_figure, save
from kd.jobs.run import user_errors
from kd.plan import Plan
from kd.stages.tabulate import forget_keys, plan_from_command_line

log = logging.getLogger("kd")


def draw_figures(plan: Plan) -> None:
    """Write accuracy, training curves and cost."""
    config = plan.config
    tables, figures = config.results / "tables", config.results / "figures"
    forget_keys(figures)
    table = pd.read_csv(tables / "summary.csv", dtype={"level": str}).fillna({"level": ""})
    title, suffix = config.reports.title, config.reports.format
    save(accuracy_figure(table, title, config.reports.selection), figures / f"accuracy.{suffix}")
    save(curves_figure(plan.rows, title), figures / f"training_curves.{suffix}")
    save(cost_figure(pd.read_csv(tables / "cost.csv"), title), figures / f"cost.{suffix}")


if __name__ == "__main__":
    with user_errors():
        draw_figures(plan_from_command_line(__doc__))
        log.info("figures written")
