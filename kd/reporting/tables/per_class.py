"""How good every method is at each class of every dataset."""

from __future__ import annotations

import html
from collections.abc import Iterator
from math import isnan
from typing import TYPE_CHECKING, Any

from kd.artefacts.job import Job
from kd.reporting.base import Row, Run, Table
from kd.reporting.predictions import (
    NAMES,
    hits,
    networks_of,
    place_of,
    predictions_by_network,
    rows_without_sweeps,
)

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from kd.training.predictions import Predictions

INDIVIDUAL = "individual"
EXTREMES = 10  # classes at either end that people are shown, where there are more than twice as many


class Report(Table):
    """`per_class.csv`, and for people `per_class.md` and `per_class.html`."""

    READS_FILES = True
    CAPTION = """\
Each class of each dataset on test, in percent: accuracy among the samples of the class (recall), and for multi-label
datasets the average precision of the class; mean and standard deviation over seeds, without sweeps. *samples*: test
samples of the class. In brackets, and as *difference* in per_class.csv: points over the individual teacher of the
dataset, mean over seeds. Of many classes, those are shown that students gain and lose most at; per_class.csv has all.
"""

    def reads(self, run: Run) -> list[Job]:
        """Networks, but for those of sweeps; and datasets, which know their classes."""
        return [*run.stage("prepare_dataset"), *networks_of(rows_without_sweeps(run))]

    def texts(self, run: Run) -> dict[str, str]:
        """The table, and in short for people."""
        from kd.reporting.layout import STYLE, html_table, literal, markdown

        table = per_class(run)
        title = (
            "test, each class in percent, mean ± std over seeds (points over the individual teacher), weights:"
            f" {run.selection}"
        )
        text, page = f"{title}\n", f"{STYLE}<p>{title}</p>"
        for heading, said, lines in readable_per_class(table):
            text += "\n".join(["", f"## {literal(heading)}", "", *(f"{each}\n" for each in said), markdown(lines)])
            page += f"<h3>{html.escape(heading)}</h3>{''.join(f'<p>{each}</p>' for each in said)}{html_table(lines)}"
        return {"per_class.csv": table.to_csv(index=False), "per_class.md": text, "per_class.html": page}


def per_class(run: Run) -> pd.DataFrame:
    """A line for each class and each method and level on each dataset.

    Columns: `NAMES`; `class`; `metric`: recall or AP; `samples`: of the class in test; `n_seeds`; `mean` and `std` over
    seeds in percent, empty where test has no sample of the class; `difference`: mean over the seeds that both have of
    the difference to the individual teacher, in points.
    """
    import pandas as pd

    from kd.data.packed import read_classes
    from kd.reporting.statistics import in_order

    classes = {name: read_classes(run.dataset(name).directory) for name in run.datasets}
    frames = []
    for rows, predictions in predictions_by_network(run):
        names = classes[rows[0].dataset]
        samples = class_sizes(predictions.labels, len(names))
        metric, values = class_scores(run, rows[0], predictions, names, samples)
        frames += [
            pd.DataFrame({"class": names, "metric": metric, "samples": samples, "value": values}).assign(
                **place_of(row)
            )
            for row in rows
        ]
    every = pd.concat(frames, ignore_index=True)
    pair = ["experiment", "dataset", "seed", "class"]
    individual = every[every["method"] == INDIVIDUAL].set_index(pair)["value"].rename("individual")
    every = every.join(individual, on=pair)
    every["difference"] = (every["value"] - every["individual"]).mask(every["method"] == INDIVIDUAL)
    grouped = every.groupby([*NAMES, "class"], sort=False)
    table: pd.DataFrame = grouped.agg(
        metric=("metric", "first"),
        samples=("samples", "first"),
        n_seeds=("seed", "count"),
        mean=("value", "mean"),
        std=("value", "std"),
        difference=("difference", "mean"),
    )
    return in_order(table.reset_index(), run.datasets).round(dict.fromkeys(("mean", "std", "difference"), 3))


def class_sizes(labels: np.ndarray, classes: int) -> np.ndarray:
    """(classes,) int64: samples of each class, by labels as in `Predictions`."""
    import numpy as np

    return labels.sum(axis=0, dtype=np.int64) if labels.ndim == 2 else np.bincount(labels, minlength=classes)


def class_scores(
    run: Run, row: Row, predictions: Predictions, classes: tuple[str, ...], samples: np.ndarray
) -> tuple[str, np.ndarray]:
    """Recall, or average precision, of each class in percent, and which of them; NaN for a class without samples.

    The latter is as the manifest has it, so that nothing is ranked again. `samples` has how many each class has.
    """
    import numpy as np

    if predictions.labels.ndim == 2:
        known = {
            metric["class"]: metric["value"]
            for metric in run.read(row.job)["result"]["metrics"]
            if (metric["dataset"], metric["selection"], metric["metric"]) == (row.dataset, run.selection, "AP")
        }
        return "AP", np.array([known[name] for name in classes], dtype=float)
    labels = predictions.labels
    found = np.bincount(labels[hits(predictions)], minlength=len(classes))
    return "recall", 100 * np.divide(found, samples, out=np.full(len(classes), np.nan), where=samples > 0)


def readable_per_class(table: pd.DataFrame) -> Iterator[tuple[str, list[str], pd.DataFrame]]:
    """For people: a heading, what is to be said, and the table of each dataset and experiment.

    It has a line for each class, a column for each method and level, and mean ± std (difference) in a cell. Classes
    without samples in test are left out, and counted. Of more than twice `EXTREMES` classes those at either end are
    shown, by the mean difference of students of a teacher; where there are none, by the mean of all.

    Args:
        table: as from `per_class`.
    """
    import pandas as pd

    for (dataset, experiment), group in table.groupby(["dataset", "experiment"], sort=False):
        known = group[group["samples"] > 0]
        said = []
        missing, classes = group["class"].nunique() - known["class"].nunique(), list(known["class"].unique())
        if missing:
            said.append(f"Without samples in test, and left out: {missing} of {group['class'].nunique()} classes.")
        if len(classes) > 2 * EXTREMES:
            said.append(f"The {EXTREMES} classes that gain most and the {EXTREMES} that gain least, of {len(classes)}.")
            ranked = ranked_classes(known)
            classes = [*ranked[:EXTREMES], *ranked[-EXTREMES:]]
        columns: dict[str, Any] = {"class": classes}
        columns["samples"] = known.drop_duplicates("class").set_index("class")["samples"].loc[classes].to_list()
        for (method, level), lines in known.groupby(["method", "level"], sort=False):
            cells = lines.set_index("class").loc[classes]
            columns[f"{method} {level}".strip()] = [
                cell(*each) for each in cells[["mean", "std", "difference"]].itertuples(index=False)
            ]
        metric = known["metric"].iloc[0]
        yield f"{dataset}, {experiment} ({metric})", said, pd.DataFrame(columns)


def ranked_classes(known: pd.DataFrame) -> list[str]:
    """Classes by what students of a teacher gain at them, most first; where there are no students, by their mean."""
    from kd.reporting.verdict import NOT_STUDENTS

    students = known[~known["method"].isin(NOT_STUDENTS)].dropna(subset="difference")
    column, lines = ("difference", students) if len(students) else ("mean", known)
    means = lines.groupby("class", sort=False)[column].mean()
    ordered: list[str] = means.sort_values(ascending=False, kind="stable").index.tolist()
    return ordered


def cell(mean: float, std: float, difference: float) -> str:
    """`mean ± std (difference)`, of these what there is."""
    from kd.reporting.layout import mean_and_std

    return mean_and_std(mean, std, digits=1) + ("" if isnan(difference) else f" ({difference:+.1f})")
