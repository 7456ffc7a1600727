"""Multi-label datasets: all metrics side by side."""

from __future__ import annotations

from kd.reporting.base import Run, Table


class Report(Table):
    """`multilabel.csv`, `.md` and `.html`."""

    CAPTION = """\
Test metrics of multi-label datasets in percent, mean and standard deviation over seeds, without sweeps. *mAP*: mean
average precision over classes. *OF1@k*, *CF1@k*: F1 over all labels, and mean over classes of each one's F1, where each
sample predicts as many labels as it truly has: as in the L2D paper. *OF1*, *CF1*: F1 over all labels, and of the mean
precision and mean recall over classes, where predicted is what has a probability of 0.5 or more. Classes that have no
positives in test are left out of means over classes. per_class.md, beside this table, has the average precision of each
class.
"""

    def applies(self, run: Run) -> bool:
        """Whether a dataset is multi-label: only then is there a table."""
        return any(job.spec["task"] == "multi_label" for job in run.stage("prepare_dataset"))

    def texts(self, run: Run) -> dict[str, str]:
        """All metrics of multi-label datasets side by side."""
        from kd.reporting.layout import metrics_table
        from kd.training.metrics import MULTI_LABEL_METRICS

        return metrics_table("multilabel", run, "multi_label", MULTI_LABEL_METRICS)
