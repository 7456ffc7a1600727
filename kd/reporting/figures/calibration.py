"""Reliability diagrams: how often networks are right, by how sure they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kd.artefacts.job import Job
from kd.reporting.base import Figure, Row, Run
from kd.reporting.predictions import (
    NAMES,
    names_of,
    networks_of,
    predictions_by_network,
    rows_without_sweeps,
)

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure as Drawn

BEFORE = "individual"
AFTER = "distill_student"


class Report(Figure):
    """A panel per dataset."""

    READS_FILES = True
    CAPTION = """\
Reliability diagrams on test, before distillation (the individual teacher) and after (students): how often predictions
of a confidence are right, in 15 bins of equal width, all seeds together. For multi-label datasets: how often samples
have a label, by its probability. Dotted: perfect calibration; below it networks are too sure. Bins without predictions
have no point.
"""

    def reads(self, run: Run) -> list[Job]:
        """Individual teachers and students, but for those of sweeps."""
        return networks_of([row for row in rows_without_sweeps(run) if _is_shown(row)])

    def draw(self, run: Run) -> Drawn:
        """The figure."""
        import matplotlib.pyplot as plt
        import pandas as pd

        from kd.reporting.calibration import calibration, reliability
        from kd.reporting.drawing import LONGEST_AT_PANEL, STYLES, colour, labels, legible, with_legend
        from kd.reporting.statistics import in_order

        pooled: dict[tuple[str, ...], np.ndarray] = {}
        for rows, predictions in predictions_by_network(run):
            bins = calibration(predictions).bins
            for place in (names_of(row) for row in rows if _is_shown(row)):
                pooled[place] = pooled.get(place, 0) + bins
        table = in_order(pd.DataFrame(list(pooled), columns=list(NAMES)), run.datasets)
        table = table.assign(label=labels(table))
        panels = [name for name in run.datasets if name in set(table["dataset"])]
        columns = max(1, len(panels))
        figure, axes = plt.subplots(1, columns, figsize=(3.2 * columns + 1.5, 3.6), squeeze=False)
        for axis, dataset in zip(axes[0], panels, strict=False):
            for line in table[table["dataset"] == dataset].to_dict("records"):
                axis.plot(
                    *reliability(pooled[tuple(line[name] for name in NAMES)]),
                    marker="o",
                    markersize=3,
                    color=colour(line["method"]),
                    linestyle=STYLES[line["level"]],
                    label=legible(line["label"]),
                )
            axis.plot([0, 100], [0, 100], color="black", linewidth=0.8, linestyle=":")
            axis.set(title=legible(dataset, LONGEST_AT_PANEL), xlabel="confidence (%)", ylabel="right (%)")
            axis.grid(alpha=0.3)
        return with_legend(figure, run.title)


def _is_shown(row: Row) -> bool:
    return row.method == BEFORE or row.job.stage == AFTER
