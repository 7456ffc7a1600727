"""Draw the figures of a finished run from its tables and training histories."""

from __future__ import annotations

import logging
from pathlib import Path

from kd.evaluation.contents import OPTIONAL_FIGURES, is_swept
from kd.evaluation.figures import (
    accuracy_figure,
    cache_figure,
    cost_figure,
    curves_figure,
    save,
    sensitivity_figure,
)
from kd.evaluation.tables import read_table
from kd.jobs.errors import UserError
from kd.jobs.lock import writing
from kd.jobs.run import user_errors
from kd.plan import Plan
from kd.stages.tabulate import command_line, plainly_named, plan_of

log = logging.getLogger("kd")


def draw_figures(plan: Plan, key: Path, tables_key: Path) -> None:
    """Write accuracy, training curves, cost and caches; sensitivity, if options are swept; attention, if asked for.

    Args:
        plan: of the run.
        key: written at last: it says which run the figures are of.
        tables_key: says which run the tables are of.

    Raises:
        UserError: somebody has replaced the tables by those of another run.
    """
    config = plan.config
    tables, figures = plan.folder / "tables", plan.folder / "figures"
    with writing(tables):  # nobody replaces them now
        if not tables_key.is_file():
            raise UserError(f"{tables}: are by now those of another run of this experiment; run again")
        table, costs, caches = (read_table(tables / f"{name}.csv") for name in ("summary", "cost", "cache"))
    title, suffix = config.reports.title, config.reports.format
    drawn = {
        "accuracy": accuracy_figure(table, title, config.reports.selection),
        "training_curves": curves_figure(plan.rows, title),
        "cost": cost_figure(costs, title),
        "cache": cache_figure(caches, title),
    }
    if is_swept(plan):
        drawn["sensitivity"] = sensitivity_figure(table, title, config.reports.selection)
    if config.reports.attention is not None:
        from kd.evaluation.attention import students_attention  # loads torch

        drawn["attention"] = students_attention(plan, config.reports.attention)
    with plainly_named(figures, key):
        for name in set(OPTIONAL_FIGURES) - set(drawn):
            (figures / f"{name}.{suffix}").unlink(missing_ok=True)  # of another run
        for name, figure in drawn.items():
            save(figure, figures / f"{name}.{suffix}")


if __name__ == "__main__":
    options = command_line(__doc__, "tables_key").parse_args()
    with user_errors():
        draw_figures(plan_of(options.config), options.key, options.tables_key)
