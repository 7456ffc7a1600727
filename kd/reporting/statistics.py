"""From finished networks to numbers: what was measured, means and spreads over seeds, paired gains.

Everything here works on data frames whose columns `PLACE` say which network a line is about.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import stdtr

from kd.artefacts.files import chunk_array
from kd.data.options import Task
from kd.training.metrics import PRIMARY

if TYPE_CHECKING:
    from kd.reporting.base import Run

pd.set_option("mode.string_storage", "python")  # that of pyarrow, where it is installed, takes no names beyond Unicode

PLACE = ("experiment", "dataset", "method", "level", "variant")
"""What tells networks apart, but for their seed."""
SUMMARY_COLUMNS = (*PLACE, "metric", "selection", "n_seeds", "mean", "std", "gain", "gain_se", "gain_p")
REFERENCES = ("vanilla", "individual")
"""Methods that gains are over: the first that there is."""
DISTILLERS = ("kd", "dkd", "fitnet", "at", "sp", "crd", "rkd", "pkt", "reviewkd", "mse", "ps", "mld", "cd", "id", "l2d")
"""Methods of students of an individual teacher that are called by their distiller."""
METHOD_ORDER = (
    "individual",
    "vanilla",
    "single_dataset_kd",
    "single_dataset_kd_features",
    *DISTILLERS,
    "joint_baseline",
    "joint_teacher",
    "student",
    *(f"joint_{name}" for name in DISTILLERS),
)


def method_order(method: str) -> tuple[int, str]:
    """Sorts methods: known ones first, as in `METHOD_ORDER`, then others by name."""
    return (METHOD_ORDER.index(method), "") if method in METHOD_ORDER else (len(METHOD_ORDER), method)


def option_and_value(variant: str) -> tuple[str, float]:
    """An `option=value` of a sweep taken apart; ("", 0) for what is not of one. Sorts variants."""
    option, _, value = variant.partition("=")
    return option, float(value or 0)


def measurements(run: Run) -> pd.DataFrame:
    """One line per network, seed, metric and selection: metrics on test and val of a finished run, in percent."""
    lines = [place | metric for place, metric in metric_rows_of(run) if "class" not in metric]
    return pd.DataFrame(lines, columns=[*PLACE, "seed", "metric", "selection", "value"])


def metric_rows_of(run: Run) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each metric of each network on the dataset of its row, with where it belongs."""
    for row in run.rows:
        place = {key: getattr(row, key) for key in (*PLACE, "seed")}
        for metric in run.read(row.job)["result"]["metrics"]:
            if metric["dataset"] == row.dataset:
                yield place, metric


def summary(measured: pd.DataFrame, datasets: list[str]) -> pd.DataFrame:
    """Mean and standard deviation over seeds, with the gain over a network that is trained with labels alone.

    That is `vanilla`, the student's network, where the experiment has it for the dataset, else the individual
    teacher of the dataset. `gain` is the mean over seeds of the difference, in points, to that of the same seed;
    `gain_se` is the standard error of that mean (the standard deviation of the differences over the square
    root of their number), and `gain_p` the p-value of a two-sided paired t-test; both are empty for one seed.

    Args:
        measured: as from `measurements`.
        datasets: in the order wanted.
    """
    joined = measured.join(_references(measured), on=["experiment", "dataset", "seed", "metric", "selection"])
    is_reference = (joined["method"] == joined["reference_method"]) & (joined["variant"] == "")
    joined["difference"] = (joined["value"] - joined["reference"]).mask(is_reference)
    grouped = joined.groupby([*PLACE, "metric", "selection"], sort=False)
    table: pd.DataFrame = grouped.agg(
        n_seeds=("value", "count"),
        mean=("value", "mean"),
        std=("value", "std"),
        gain=("difference", "mean"),
        gain_se=("difference", "sem"),
        gain_p=("difference", _p_value),
    ).reset_index()

    ordered = in_order(table, datasets, lambda line: (option_and_value(line.variant), line.metric, line.selection))
    rounded: pd.DataFrame = ordered.round(dict.fromkeys(("mean", "std", "gain", "gain_se"), 3) | {"gain_p": 5})
    return rounded[list(SUMMARY_COLUMNS)]


def in_order(
    table: pd.DataFrame, datasets: Sequence[str], then: Callable[[Any], Any] = lambda _line: ()
) -> pd.DataFrame:
    """Lines by experiment, dataset, method and level, as in all tables; those of one place by `then`, or as before."""

    def order(line: Any) -> tuple[Any, ...]:
        place = (line.experiment, datasets.index(line.dataset), method_order(line.method), line.level)
        return (*place, then(line))

    return table.loc[[line.Index for line in sorted(table.itertuples(), key=order)]].reset_index(drop=True)


SIGNIFICANCE = 0.05
"""A difference is seen if its p-value is less."""


class Gain(NamedTuple):
    """Mean of paired differences in points, its standard error, and the p-value of a two-sided paired t-test."""

    mean: float
    se: float
    p: float

    @property
    def is_seen(self) -> bool:
        """Whether it is more than chance would give; of a single pair it is not."""
        return self.p < SIGNIFICANCE


def paired_gain(ours: Mapping[Any, float], theirs: Mapping[Any, float]) -> Gain:
    """Differences between two networks, by the seeds (or whatever pairs them) that both have.

    `se` and `p` are NaN for a single pair.
    """
    differences = (pd.Series(ours) - pd.Series(theirs)).dropna()
    error = differences.std() / np.sqrt(len(differences))
    return Gain(differences.mean(), error, _p_value(differences))


def _p_value(differences: pd.Series) -> float:
    """The p-value of a two-sided paired t-test."""
    known = differences.dropna().to_numpy(float)
    if len(known) < 2:
        return np.nan
    mean, deviation = known.mean(), known.std(ddof=1)
    if deviation == 0:  # the test statistic would be 0 / 0 or infinite
        return 1.0 if mean == 0 else 0.0
    return float(2 * stdtr(len(known) - 1, -abs(mean) / deviation * np.sqrt(len(known))))


def _references(measured: pd.DataFrame) -> pd.DataFrame:
    """The value that each seed's gains are over, and its method: `reference`, `reference_method`."""
    pair = ["experiment", "dataset", "seed", "metric", "selection"]
    candidates = measured[measured["method"].isin(REFERENCES) & (measured["variant"] == "")]
    first = candidates.iloc[candidates["method"].map(REFERENCES.index).argsort(kind="stable")].drop_duplicates(pair)
    renamed = first.rename(columns={"value": "reference", "method": "reference_method"})
    return renamed.set_index(pair)[["reference", "reference_method"]]


def primary_metrics(table: pd.DataFrame) -> dict[str, str]:
    """The metric that stands for each dataset: acc@1, or mAP if it is multi-label."""
    found = {dataset: set(lines["metric"]) for dataset, lines in table.groupby("dataset", sort=False)}
    return {str(dataset): next(each for each in PRIMARY.values() if each in known) for dataset, known in found.items()}


def headline(table: pd.DataFrame, selection: str) -> pd.DataFrame:
    """Lines of `summary` that tables for people and figures show: of the primary metric, without sweeps."""
    wanted = table["dataset"].map(primary_metrics(table))
    return table[(table["metric"] == wanted) & (table["selection"] == selection) & (table["variant"] == "")]


def metrics_side_by_side(table: pd.DataFrame, selection: str, task: Task, metrics: Sequence[str]) -> pd.DataFrame:
    """A line for each dataset of a task, method and level, without sweeps, as the L2D paper lays out its tables.

    Columns: `dataset`, `experiment` (a teacher-student pair), `method`, `level`, `n_seeds`, and of each metric the mean
    over seeds in percent, under its name, and the standard deviation, under NAME_std.

    Args:
        table: as from `summary`.
        selection: weights that are meant.
        task: of the datasets.
        metrics: that these have.
    """
    is_meant = table["dataset"].map(primary_metrics(table)) == PRIMARY[task]
    chosen = table[is_meant & (table["selection"] == selection) & (table["variant"] == "")]
    names, lines = ["dataset", "experiment", "method", "level"], []
    for place, group in chosen.groupby(names, sort=False):
        scores = group.set_index("metric").loc[list(metrics), ["mean", "std"]]
        lines.append([*place, int(group["n_seeds"].max()), *scores.to_numpy().ravel()])
    columns = [name for metric in metrics for name in (metric, f"{metric}_std")]
    return pd.DataFrame(lines, columns=[*names, "n_seeds", *columns])


def stored_bytes(manifest: dict[str, Any]) -> dict[str, dict[str, int]]:
    """Bytes of a store's chunks: array -> split -> bytes; scales count with their array."""
    found: dict[str, dict[str, int]] = {}
    for record in manifest["files"]:
        array = chunk_array(PurePath(record["path"]))  # STORE/split/array
        if array is not None and array.name != "ids":
            splits = found.setdefault(array.name.removesuffix("_scale"), {})
            splits[array.parent.name] = splits.get(array.parent.name, 0) + record["bytes"]
    return found
