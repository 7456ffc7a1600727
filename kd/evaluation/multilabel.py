"""Tables of multi-label datasets: all metrics side by side, and the average precision of each class."""

from __future__ import annotations

import pandas as pd

from kd.evaluation.tables import (
    PLACE,
    Read,
    literal,
    markdown,
    mean_and_std,
    metric_rows_of,
    primary_metrics,
    row_order,
)
from kd.plan import Row
from kd.training.metrics import MULTI_LABEL_METRICS, PRIMARY

NAMES = ("dataset", "experiment", "row", "level")


def metrics_side_by_side(table: pd.DataFrame, selection: str) -> pd.DataFrame:
    """A line for each row of each multi-label dataset, without sweeps, as the tables of the L2D paper are laid out.

    Columns: `NAMES` (an experiment is a teacher-student pair), `n_seeds`, and of each of `MULTI_LABEL_METRICS` the
    mean over seeds in percent, under its name, and the standard deviation, under NAME_std.

    Args:
        table: as from `kd.evaluation.tables.summary`.
        selection: weights that are meant.
    """
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
    texts = {
        metric: [mean_and_std(*pair, digits=2) for pair in zip(wide[metric], wide[f"{metric}_std"], strict=True)]
        for metric in MULTI_LABEL_METRICS
    }
    return wide[list(NAMES)].assign(**texts)


def per_class(rows: list[Row], read: Read) -> pd.DataFrame:
    """One line per multi-label network, seed, selection and class: average precision on test, in percent.

    It is NaN where test has no positives of the class.

    Args:
        rows: measured networks.
        read: gives the manifest of a job.
    """
    lines = [
        place | {"selection": metric["selection"], "class": metric["class"], "ap": metric["value"]}
        for place, metric in metric_rows_of(rows, read)
        if "class" in metric
    ]
    return pd.DataFrame(lines, columns=[*PLACE, "seed", "selection", "class", "ap"]).astype({"ap": float})


def readable_per_class(table: pd.DataFrame, selection: str) -> str:
    """For people, in Markdown: mean over seeds, without sweeps; a table for each experiment and dataset.

    It has one line per class and one column per row. Classes of which test has no positives count for nothing in
    means over classes: they are left out, and counted.

    Args:
        table: as from `per_class`.
        selection: weights that are meant.
    """
    chosen = table[(table["selection"] == selection) & (table["variant"] == "")]
    texts = []
    for (dataset, experiment), group in chosen.groupby(["dataset", "experiment"], sort=False):
        columns = (group["row"] + " " + group["level"]).str.strip()
        order = sorted(columns.unique(), key=lambda column: (row_order(column.split()[0]), column))
        means = group.assign(column=columns).groupby(["class", "column"])["ap"].mean().unstack()
        means = means.loc[group["class"].unique(), order]
        known = means.dropna()
        text = f"## {literal(f'{dataset}, {experiment}')}\n\n"
        if len(known) < len(means):
            text += f"Without positives in test, and left out: {len(means) - len(known)} of {len(means)} classes.\n\n"
        texts.append(text + markdown(known.map("{:.1f}".format).rename_axis(columns=None).reset_index()))
    return "\n".join(texts)
