"""Test acc@1 or mAP of students against what is stored for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kd.artefacts.job import Job
from kd.reporting.base import Figure, Run
from kd.reporting.tables.cache import cache_table, students_and_stores

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawn


class Report(Figure):
    """A panel per dataset."""

    CAPTION = """\
acc@1 (multi-label: mAP) on test of every student, against the bytes that are stored of one training sample for it:
its targets, and the embeddings that they were made from. Points are labelled with the number of stored views (and the
precision, if it is not float16); the dotted lines are students of live teachers, which store nothing and see a new view
in each epoch. Error bars and bands: one standard deviation over seeds.
"""

    def reads(self, run: Run) -> list[Job]:
        """Students, stores and datasets."""
        return students_and_stores(run)

    def draw(self, run: Run) -> Drawn:
        """The figure of a run with students or without."""
        import matplotlib.pyplot as plt
        from matplotlib.ticker import EngFormatter

        from kd.reporting.drawing import LONGEST_AT_PANEL, MARKERS, colour, label, legible, with_legend
        from kd.reporting.statistics import measurements

        table = cache_table(run, measurements(run))
        datasets = list(dict.fromkeys(table["dataset"]))
        columns = max(1, len(datasets))
        figure, axes = plt.subplots(1, columns, figsize=(3.6 * columns + 1.5, 3.7), squeeze=False)
        for axis, dataset in zip(axes[0], datasets, strict=False):
            lines = table[table["dataset"] == dataset]
            metric = lines["metric"].iloc[0]
            for (method, level), group in lines.groupby(["method", "level"], sort=False):
                text = label("", str(method), str(level))
                style = {"color": colour(str(method)), "marker": MARKERS[str(level)]}
                stored = group[group["views"] != "live"].sort_values("bytes_per_sample")
                spread = stored["std"].fillna(0)
                axis.errorbar(
                    stored["bytes_per_sample"], stored["mean"], spread, label=text, linestyle="", capsize=3, **style
                )
                for size, mean, views, dtype in stored[["bytes_per_sample", "mean", "views", "dtype"]].to_numpy():
                    views_and_dtype = views if dtype == "float16" else f"{views} {dtype}"
                    axis.annotate(views_and_dtype, (size, mean), xytext=(4, 4), textcoords="offset points", fontsize=7)
                for mean, deviation in group.loc[group["views"] == "live", ["mean", "std"]].fillna(0).to_numpy():
                    axis.axhline(mean, color=colour(str(method)), linestyle=":", label=f"{text} live")
                    axis.axhspan(mean - deviation, mean + deviation, color=colour(str(method)), alpha=0.1)
            axis.set_xscale("log", base=2)
            axis.xaxis.set_major_formatter(EngFormatter(unit="B"))
            axis.set(
                title=legible(dataset, LONGEST_AT_PANEL),
                xlabel="stored per training sample",
                ylabel=f"test {metric} (%)",
            )
            axis.grid(alpha=0.3)
        return with_legend(figure, run.title)
