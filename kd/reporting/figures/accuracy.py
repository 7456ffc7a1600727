"""Test acc@1 or mAP of every method."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kd.reporting.base import Figure, Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawn


class Report(Figure):
    """A panel per dataset."""

    CAPTION = """\
Test acc@1 by method and dataset (mAP where a dataset is multi-label), without the students of sweeps. Error bars: one
standard deviation over seeds. Dotted lines: networks trained with labels alone, the individual teacher (grey) and the
student's (black).
"""

    def draw(self, run: Run) -> Drawn:
        """The figure."""
        import matplotlib.pyplot as plt

        from kd.reporting.drawing import LONGEST_AT_PANEL, colour, labels, legible, write_title
        from kd.reporting.statistics import REFERENCES, headline, measurements, primary_metrics, summary

        chosen = headline(summary(measurements(run), run.datasets), run.selection)
        metrics = primary_metrics(chosen)
        chosen = chosen.assign(label=labels(chosen))
        shown = list(dict.fromkeys(chosen["label"]))
        size = (3.4 * len(metrics) + 1.5, max(4, 0.25 * len(shown) + 1.5))
        figure, axes = plt.subplots(1, len(metrics), figsize=size, squeeze=False, sharey=True)
        for axis, (dataset, metric) in zip(axes[0], metrics.items(), strict=True):
            for line in chosen[chosen["dataset"] == dataset].fillna({"std": 0}).itertuples():
                shade = colour(str(line.method))
                axis.errorbar(line.mean, shown.index(line.label), xerr=line.std, fmt="o", color=shade, capsize=3)
                if line.method in REFERENCES:
                    axis.axvline(line.mean, color=shade, linewidth=0.8, linestyle=":")
            axis.grid(axis="x", alpha=0.3)
            axis.set(title=legible(dataset, LONGEST_AT_PANEL), xlabel=f"test {metric} (%)", yticks=range(len(shown)))
            axis.set_yticklabels(map(legible, shown))
        axes[0, 0].invert_yaxis()
        write_title(figure, run.title)
        figure.tight_layout()
        return figure
