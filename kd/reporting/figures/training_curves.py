"""acc@1 or mAP on val after each epoch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kd.reporting.base import Figure, Run

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as Drawn


class Report(Figure):
    """A panel per dataset."""

    READS_FILES = True
    CAPTION = """\
acc@1 (multi-label: mAP) on val after each epoch, mean over seeds, without sweeps. Networks for several datasets, joint
baselines and shared joint teachers, are not shown: they have one curve for all of them.
"""

    def draw(self, run: Run) -> Drawn:
        """The figure."""
        import matplotlib.pyplot as plt
        import pandas as pd

        from kd.reporting.drawing import LONGEST_AT_PANEL, STYLES, colour, label, legible, with_legend

        trained_for: dict[Path, set[str]] = {}
        for row in run.rows:
            trained_for.setdefault(row.job.directory, set()).add(row.dataset)
        shown = [row for row in run.rows if len(trained_for[row.job.directory]) == 1 and not row.variant]
        datasets = list(dict.fromkeys(row.dataset for row in shown))
        several = len({row.experiment for row in shown}) > 1
        figure, axes = plt.subplots(1, len(datasets), figsize=(3.4 * len(datasets) + 1.5, 3.5), squeeze=False)
        for axis, dataset in zip(axes[0], datasets, strict=True):
            groups: dict[tuple[str, str, str], list[pd.Series]] = {}
            for row in shown:
                history = row.job.directory / "history.csv"
                if row.dataset == dataset and history.is_file():
                    groups.setdefault((row.experiment, row.method, row.level), []).append(_curve(history))
            for (experiment, name, level), curves in groups.items():
                mean = pd.concat(curves, axis=1).mean(axis=1)
                text = legible(label(experiment if several else "", name, level))
                axis.plot(mean.index, mean, color=colour(name), linestyle=STYLES[level], label=text, linewidth=1.2)
                axis.set_ylabel(f"val {curves[0].name} (%)")
            axis.set(title=legible(dataset, LONGEST_AT_PANEL), xlabel="epoch")
            axis.grid(alpha=0.3)
        return with_legend(figure, run.title)


def _curve(history: Path) -> pd.Series:
    """The metric on val by epoch, counted from 1; the series is named after the metric."""
    import pandas as pd

    from kd.training.metrics import PRIMARY

    table = pd.read_csv(history)
    metric = next(each for each in PRIMARY.values() if f"val_{each}" in table)
    return pd.Series(table[f"val_{metric}"].to_numpy(), index=table["epoch"] + 1, name=metric)
