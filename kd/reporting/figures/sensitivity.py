"""Test acc@1 or mAP against the value of each option that was swept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kd.reporting.base import Figure, Run

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawn

DECADE = 10
PANELS_ABREAST = 3


class Report(Figure):
    """A panel per option and dataset."""

    CAPTION = """\
Test acc@1 (multi-label: mAP) against the value of each option that was swept. Bands: one standard deviation over
seeds. Dashed lines: the students' network trained with labels alone, in the same experiment.
"""

    def applies(self, run: Run) -> bool:
        """Whether an option is swept: only then is there a figure."""
        return any(row.variant for row in run.rows)

    def draw(self, run: Run) -> Drawn:
        """The figure of a run in which at least one option is swept."""
        import matplotlib.pyplot as plt

        from kd.reporting.drawing import LONGEST_AT_PANEL, labels, legible, with_legend
        from kd.reporting.statistics import measurements, option_and_value, primary_metrics, summary

        table = summary(measurements(run), run.datasets)
        metrics = primary_metrics(table)
        chosen = table[(table["metric"] == table["dataset"].map(metrics)) & (table["selection"] == run.selection)]
        options, values = zip(*map(option_and_value, chosen["variant"]), strict=True)
        chosen = chosen.assign(option=options, value=values, label=labels(chosen))
        swept = chosen[chosen["option"] != ""]
        panels = swept[["dataset", "option"]].drop_duplicates().to_numpy().tolist()
        columns = min(len(panels), PANELS_ABREAST)
        rows = -(-len(panels) // columns)
        size = (3.4 * columns + 1.5, 3 * rows + 0.7)
        figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
        for axis in axes.flat[len(panels) :]:
            axis.set_visible(False)
        for (dataset, option), axis in zip(panels, axes.flat, strict=False):
            here = chosen[chosen["dataset"] == dataset]
            lines = here[here["option"] == option]
            plain = here[(here["method"] == "vanilla") & (here["option"] == "")]
            _sensitivity_panel(axis, lines, plain[plain["experiment"].isin(lines["experiment"])])
            axis.set(
                title=legible(dataset, LONGEST_AT_PANEL),
                xlabel=option.replace("_", " "),
                ylabel=f"test {metrics[dataset]} (%)",
            )
        return with_legend(figure, run.title)


def _sensitivity_panel(axis: Axes, swept: pd.DataFrame, vanilla: pd.DataFrame) -> None:
    """One option on one dataset."""
    import numpy as np

    from kd.reporting.drawing import colour, legible

    values = swept["value"].unique()
    sizes = np.abs(values[values != 0])
    if sizes.size and sizes.max() >= DECADE * sizes.min():
        axis.set_xscale("symlog", linthresh=sizes.min())
    for (method, label), group in swept.sort_values("value").groupby(["method", "label"], sort=False):
        shade, spread = colour(str(method)), group["std"].fillna(0)
        axis.plot(group["value"], group["mean"], marker="o", markersize=4, color=shade, label=legible(str(label)))
        axis.fill_between(group["value"], group["mean"] - spread, group["mean"] + spread, color=shade, alpha=0.15)
    for mean, label in zip(vanilla["mean"], vanilla["label"], strict=True):
        axis.axhline(mean, color=colour("vanilla"), linestyle="--", linewidth=1, label=legible(label))
    axis.set_xticks(values, [f"{value:g}" for value in values])
    axis.minorticks_off()
    axis.grid(alpha=0.3)
