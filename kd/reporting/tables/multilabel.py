"""Multi-label datasets: all metrics side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kd.reporting.base import Run, Table

if TYPE_CHECKING:
    import pandas as pd

NAMES = ("dataset", "experiment", "method", "level")


class Report(Table):
    """`multilabel.csv`, `.md` and `.html`."""

    CAPTION = """\
Test metrics of multi-label datasets in percent, mean and standard deviation over seeds, without sweeps. *mAP*: mean
average precision over classes. *OF1@k*, *CF1@k*: F1 over all labels, and mean over classes of each one's F1, where each
image predicts as many labels as it truly has: as in the L2D paper. *OF1*, *CF1*: F1 over all labels, and of the mean
precision and mean recall over classes, where predicted is what has a probability of 0.5 or more. Classes that have no
positives in test are left out of means over classes. per_class.md, beside this table, has the average precision of each
class.
"""

    def applies(self, run: Run) -> bool:
        """Whether a dataset is multi-label: only then is there a table."""
        return any(job.spec["task"] == "multi_label" for job in run.stage("prepare_dataset"))

    def texts(self, run: Run) -> dict[str, str]:
        """All metrics of multi-label datasets side by side."""
        from kd.reporting.layout import STYLE, html_table, markdown
        from kd.reporting.statistics import measurements, summary

        wide = metrics_side_by_side(summary(measurements(run), run.datasets), run.selection)
        short = readable_side_by_side(wide)
        title = f"test metrics of multi-label datasets in percent, mean ± std over seeds, weights: {run.selection}"
        return {
            "multilabel.csv": wide.to_csv(index=False),
            "multilabel.md": f"{title}\n\n{markdown(short)}",
            "multilabel.html": f"{STYLE}<p>{title}</p>{html_table(short)}",
        }


def metrics_side_by_side(table: pd.DataFrame, selection: str) -> pd.DataFrame:
    """A line for each method, level and multi-label dataset, without sweeps, as the L2D paper lays out its tables.

    Columns: `NAMES` (an experiment is a teacher-student pair), `n_seeds`, and of each of `MULTI_LABEL_METRICS` the
    mean over seeds in percent, under its name, and the standard deviation, under NAME_std.

    Args:
        table: as from `kd.reporting.statistics.summary`.
        selection: weights that are meant.
    """
    import pandas as pd

    from kd.reporting.statistics import primary_metrics
    from kd.training.metrics import MULTI_LABEL_METRICS, PRIMARY

    primary = primary_metrics(table)
    is_meant = table["dataset"].map(primary) == PRIMARY["multi_label"]
    chosen = table[is_meant & (table["selection"] == selection) & (table["variant"] == "")]
    lines = []
    for place, group in chosen.groupby(list(NAMES), sort=False):
        scores = group.set_index("metric")
        line = dict(zip(NAMES, place, strict=True)) | {"n_seeds": int(group["n_seeds"].max())}
        for metric in MULTI_LABEL_METRICS:
            line |= {metric: scores.at[metric, "mean"], f"{metric}_std": scores.at[metric, "std"]}
        lines.append(line)
    columns = [name for metric in MULTI_LABEL_METRICS for name in (metric, f"{metric}_std")]
    return pd.DataFrame(lines, columns=[*NAMES, "n_seeds", *columns])


def readable_side_by_side(wide: pd.DataFrame) -> pd.DataFrame:
    """For people: `metrics_side_by_side` with mean ± std in each cell."""
    from kd.reporting.layout import mean_and_std
    from kd.training.metrics import MULTI_LABEL_METRICS

    texts = {
        metric: [mean_and_std(*pair, digits=2) for pair in zip(wide[metric], wide[f"{metric}_std"], strict=True)]
        for metric in MULTI_LABEL_METRICS
    }
    return wide[list(NAMES)].assign(**texts)
