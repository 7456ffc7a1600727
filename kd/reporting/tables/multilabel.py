"""Multi-label datasets: all metrics side by side, and the average precision of each class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kd.reporting.base import Run, Table

if TYPE_CHECKING:
    import pandas as pd

NAMES = ("dataset", "experiment", "method", "level")


class Report(Table):
    """`multilabel.csv`, `.md`, `.html`, and of each class `per_class.csv` and `.md`."""

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
        """All metrics of multi-label datasets side by side, and the average precision of each class."""
        from kd.reporting.layout import STYLE, html_table, markdown
        from kd.reporting.statistics import measurements, summary

        table, classes = summary(measurements(run), run.datasets), per_class(run)
        wide = metrics_side_by_side(table, run.selection)
        short = readable_side_by_side(wide)
        title = f"test metrics of multi-label datasets in percent, mean ± std over seeds, weights: {run.selection}"
        by_class = f"average precision on test in percent, mean over seeds, weights: {run.selection}"
        return {
            "multilabel.csv": wide.to_csv(index=False),
            "multilabel.md": f"{title}\n\n{markdown(short)}",
            "multilabel.html": f"{STYLE}<p>{title}</p>{html_table(short)}",
            "per_class.csv": classes.to_csv(index=False),
            "per_class.md": f"{by_class}\n\n{readable_per_class(classes, run.selection)}",
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


def per_class(run: Run) -> pd.DataFrame:
    """One line per multi-label network, seed, selection and class: average precision on test, in percent.

    It is NaN where test has no positives of the class.
    """
    import pandas as pd

    from kd.reporting.statistics import PLACE, metric_rows_of

    lines = [
        place | {"selection": metric["selection"], "class": metric["class"], "ap": metric["value"]}
        for place, metric in metric_rows_of(run)
        if "class" in metric
    ]
    return pd.DataFrame(lines, columns=[*PLACE, "seed", "selection", "class", "ap"]).astype({"ap": float})


def readable_per_class(table: pd.DataFrame, selection: str) -> str:
    """For people, in Markdown: mean over seeds, without sweeps; a table for each experiment and dataset.

    It has one line per class and one column per method and level. Classes of which test has no positives count for
    nothing in means over classes: they are left out, and counted.

    Args:
        table: as from `per_class`.
        selection: weights that are meant.
    """
    from kd.reporting.layout import literal, markdown
    from kd.reporting.statistics import method_order

    chosen = table[(table["selection"] == selection) & (table["variant"] == "")]
    texts = []
    for (dataset, experiment), group in chosen.groupby(["dataset", "experiment"], sort=False):
        columns = (group["method"] + " " + group["level"]).str.strip()
        order = sorted(columns.unique(), key=lambda column: (method_order(column.split()[0]), column))
        means = group.assign(column=columns).groupby(["class", "column"])["ap"].mean().unstack()
        means = means.loc[group["class"].unique(), order]
        known = means.dropna()
        text = f"## {literal(f'{dataset}, {experiment}')}\n\n"
        if len(known) < len(means):
            text += f"Without positives in test, and left out: {len(means) - len(known)} of {len(means)} classes.\n\n"
        texts.append(text + markdown(known.map("{:.1f}".format).rename_axis(columns=None).reset_index()))
    return "\n".join(texts)
