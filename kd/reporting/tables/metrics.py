"""Single-label datasets: several metrics side by side."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import MinLen

from kd.reporting.base import Run, Table


class Report(Table):
    """`metrics.csv`, `.md` and `.html`."""

    CAPTION = """\
Test metrics of single-label datasets in percent, mean and standard deviation over seeds, without sweeps. *acc@k*: the
true class is among the k most probable ones. *mAP*: mean over classes of the average precision of their softmax
probabilities, as action recognition reports it; classes that test lacks are left out.
"""
    metrics: Annotated[list[Literal["acc@1", "acc@5", "mAP"]], MinLen(1)] = ["acc@1", "mAP"]
    """Metrics, side by side."""

    def applies(self, run: Run) -> bool:
        """Whether a dataset is single-label: only then is there a table."""
        return any(job.spec["task"] == "single_label" for job in run.stage("prepare_dataset"))

    def texts(self, run: Run) -> dict[str, str]:
        """These metrics side by side."""
        from kd.reporting.layout import metrics_table

        return metrics_table("metrics", run, "single_label", self.metrics)
