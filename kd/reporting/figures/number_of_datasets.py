"""Test acc@1 or mAP against the number of datasets that the teachers behind a joint teacher were trained on (MLFD)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge, MinLen

from kd.common.errors import UserError
from kd.reporting.base import Figure, Run

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as Drawn

METHODS = ("joint_teacher", "student")


class Report(Figure):
    """A panel per dataset; joint teachers and their students, and the individual teacher as one dataset."""

    CAPTION: ClassVar[str] = """\
Test acc@1 (multi-label: mAP) against the number of datasets: of joint teachers and of their students; one dataset is
the individual teacher. Error bars: one standard deviation over seeds.
"""
    experiments: Annotated[dict[Annotated[int, Ge(2)], str], MinLen(1)]
    """For each number of datasets the experiment in the tables that has joint teachers and students of so many, such as
    `{2: two, 3: three}`."""

    def check(self, run: Run) -> None:
        """Each experiment is there, with a joint teacher or a student."""
        for number, experiment in self.experiments.items():
            rows = [row for row in run.rows if row.experiment == experiment]
            if not any(row.method in METHODS for row in rows):
                known = dict.fromkeys(row.experiment for row in run.rows if row.method in METHODS)
                raise UserError(
                    f"experiments.{number}: {experiment!r} has no joint teacher and no student of one; those that have:"
                    f" {', '.join(known) or 'none'}"
                )

    def draw(self, run: Run) -> Drawn:
        """The figure."""
        import matplotlib.pyplot as plt

        from kd.reporting.drawing import LONGEST_AT_PANEL, colour, legible, with_legend
        from kd.reporting.statistics import headline, measurements, primary_metrics, summary

        chosen = headline(summary(measurements(run), run.datasets), run.selection)
        metrics = primary_metrics(chosen)
        lines = self.curves(chosen)
        panels = [dataset for dataset in metrics if dataset in set(lines["dataset"])]
        figure, axes = plt.subplots(1, len(panels), figsize=(3 * len(panels) + 1.5, 3.5), squeeze=False)
        for axis, dataset in zip(axes[0], panels, strict=True):
            here = lines[lines["dataset"] == dataset]
            for (method, label), group in here.groupby(["method", "label"], sort=False):
                axis.errorbar(
                    group["number"],
                    group["mean"],
                    yerr=group["std"].fillna(0),
                    marker="o",
                    capsize=3,
                    color=colour(str(method)),
                    linestyle="--" if method == "joint_teacher" else "-",
                    label=legible(str(label)),
                )
            axis.set(
                title=legible(dataset, LONGEST_AT_PANEL),
                xlabel="datasets",
                ylabel=f"test {metrics[dataset]} (%)",
                xticks=[1, *self.experiments],
            )
            axis.grid(alpha=0.3)
        return with_legend(figure, run.title)

    def curves(self, chosen: pd.DataFrame) -> pd.DataFrame:
        """Points of the curves: `number` of datasets, and `label`, beside the columns of the summary.

        Args:
            chosen: lines of the summary of the run that figures show. The individual teacher stands in every curve.
        """
        import pandas as pd

        numbers = {experiment: number for number, experiment in self.experiments.items()}
        several = chosen[chosen["experiment"].isin(numbers) & chosen["method"].isin(METHODS)]
        several = several.assign(number=several["experiment"].map(numbers), label=_label(several))
        single = chosen[chosen["experiment"].isin(numbers) & (chosen["method"] == "individual")]
        single = single.drop_duplicates("dataset").set_index("dataset")
        curves = []
        for (dataset, method, label), group in several.groupby(["dataset", "method", "label"], sort=False):
            known = single.loc[[dataset]] if dataset in single.index else single.iloc[:0]
            first = known.reset_index().assign(number=1, method=str(method), label=str(label))
            curves.append(pd.concat([first, group.sort_values("number")]))
        return pd.concat(curves)


def _label(lines: pd.DataFrame) -> pd.Series:
    return (lines["method"] + " " + lines["level"]).str.strip()
