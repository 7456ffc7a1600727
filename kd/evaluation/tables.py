"""Tables from manifests: test metrics with their gain over networks that are trained with labels alone, and cost."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import stdtr

from kd.jobs.job import Job
from kd.plan import STAGES, Plan, Row
from kd.training.metrics import PRIMARY

Read = Callable[[Job], dict[str, Any]]

PLACE = ("experiment", "dataset", "row", "level", "variant")
"""What tells networks apart, but for their seed."""
SUMMARY_COLUMNS = (*PLACE, "metric", "selection", "n_seeds", "mean", "std", "gain", "gain_se", "gain_p")
REFERENCES = ("vanilla", "individual")
"""Rows that gains are over: the first that there is."""
METHODS = ("kd", "dkd", "fitnet", "at", "sp", "crd", "rkd", "pkt", "reviewkd", "mse", "ps", "mld", "cd", "id", "l2d")
"""Rows of students of an individual teacher that are called by their distillation method."""
ROW_ORDER = (
    "individual",
    "vanilla",
    "single_dataset_kd",
    "single_dataset_kd_features",
    *METHODS,
    "joint_baseline",
    "joint_teacher",
    "student",
    *(f"joint_{method}" for method in METHODS),
)


def row_order(row: str) -> tuple[int, str]:
    """Sorts rows: known ones first, as in `ROW_ORDER`, then others by name."""
    return (ROW_ORDER.index(row), "") if row in ROW_ORDER else (len(ROW_ORDER), row)


def option_and_value(variant: str) -> tuple[str, float]:
    """An `option=value` of a sweep taken apart; ("", 0) for what is not of one. Sorts variants."""
    option, _, value = variant.partition("=")
    return option, float(value or 0)


def measurements(rows: list[Row], read: Read) -> pd.DataFrame:
    """One line per network, seed, metric and selection: test metrics in percent.

    Args:
        rows: measured networks.
        read: gives the manifest of a job.
    """
    lines = [
        place | {key: metric[key] for key in ("metric", "selection", "value")}
        for place, metric in metric_rows_of(rows, read)
        if "class" not in metric
    ]
    return pd.DataFrame(lines, columns=[*PLACE, "seed", "metric", "selection", "value"])


def metric_rows_of(rows: list[Row], read: Read) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each metric of each network on the dataset of its row, with where it belongs."""
    for row in rows:
        place = {key: getattr(row, key) for key in (*PLACE, "seed")}
        for metric in read(row.job)["result"]["metrics"]:
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
    is_reference = (joined["row"] == joined["reference_row"]) & (joined["variant"] == "")
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

    def order(line: Any) -> tuple[Any, ...]:
        row, variant = row_order(line.row), option_and_value(line.variant)
        dataset = datasets.index(line.dataset)
        return line.experiment, dataset, row, line.level, variant, line.metric, line.selection

    lines = list(table.itertuples())
    ordered = table.loc[[line.Index for line in sorted(lines, key=order)]]
    rounded: pd.DataFrame = ordered.round(dict.fromkeys(("mean", "std", "gain", "gain_se"), 3) | {"gain_p": 5})
    return rounded[list(SUMMARY_COLUMNS)].reset_index(drop=True)


class Gain(NamedTuple):
    """Mean of paired differences in points, its standard error, and the p-value of a two-sided paired t-test."""

    mean: float
    se: float
    p: float


def paired_gain(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Gain:
    """Differences between two networks, by the seeds that both have; `se` and `p` are NaN for a single seed."""
    differences = np.array([ours[seed] - theirs[seed] for seed in ours if seed in theirs])
    if len(differences) < 2:
        return Gain(float(differences.mean()), np.nan, np.nan)
    error = differences.std(ddof=1) / np.sqrt(len(differences))
    return Gain(float(differences.mean()), float(error), _p_value(pd.Series(differences)))


def _p_value(differences: pd.Series) -> float:
    """Of a two-sided paired t-test."""
    known = differences.dropna().to_numpy(float)
    if len(known) < 2:
        return np.nan
    mean, deviation = known.mean(), known.std(ddof=1)
    if deviation == 0:  # the test statistic would be 0 / 0 or infinite
        return 1.0 if mean == 0 else 0.0
    return float(2 * stdtr(len(known) - 1, -abs(mean) / deviation * np.sqrt(len(known))))


def _references(measured: pd.DataFrame) -> pd.DataFrame:
    """What each seed's gains are over, and its row: `reference`, `reference_row`."""
    pair = ["experiment", "dataset", "seed", "metric", "selection"]
    candidates = measured[measured["row"].isin(REFERENCES) & (measured["variant"] == "")]
    first = candidates.iloc[candidates["row"].map(REFERENCES.index).argsort(kind="stable")].drop_duplicates(pair)
    renamed = first.rename(columns={"value": "reference", "row": "reference_row"})
    return renamed.set_index(pair)[["reference", "reference_row"]]


def primary_metrics(table: pd.DataFrame) -> dict[str, str]:
    """The metric that stands for each dataset: acc@1, or mAP if it is multi-label."""
    found = {dataset: set(lines["metric"]) for dataset, lines in table.groupby("dataset", sort=False)}
    return {str(dataset): next(each for each in PRIMARY.values() if each in known) for dataset, known in found.items()}


def headline(table: pd.DataFrame, selection: str) -> pd.DataFrame:
    """Lines of `summary` that tables for people and figures show: of the primary metric, without sweeps."""
    wanted = table["dataset"].map(primary_metrics(table))
    return table[(table["metric"] == wanted) & (table["selection"] == selection) & (table["variant"] == "")]


def readable(table: pd.DataFrame, selection: str) -> pd.DataFrame:
    """For people: acc@1 or mAP as mean ± std (gain), one line per row and level, one column per dataset."""
    chosen = headline(table, selection)
    headers = {
        dataset: dataset if metric == "acc@1" else f"{dataset} ({metric})"
        for dataset, metric in primary_metrics(chosen).items()
    }
    lines: dict[tuple[str, ...], dict[str, str]] = {}
    for line in chosen.to_dict("records"):
        place = {column: line[column] for column in ("experiment", "row", "level")}
        cells = lines.setdefault(tuple(place.values()), place | dict.fromkeys(headers.values(), ""))
        gain = "" if pd.isna(line["gain"]) else f" ({line['gain']:+.1f})"
        cells[headers[line["dataset"]]] = mean_and_std(line["mean"], line["std"], digits=1) + gain
    return pd.DataFrame(list(lines.values()))


def mean_and_std(mean: float, std: float, digits: int) -> str:
    """`mean ± std`; without the latter where there is none, as of a single seed."""
    return f"{mean:.{digits}f}" if pd.isna(std) else f"{mean:.{digits}f} ± {std:.{digits}f}"


def literal(text: str) -> str:
    """Text for Markdown, as it stands: nothing in it is markup, and it has one line."""
    escaped = re.sub(r"[\\`*<&|\[\]~$]|(?<!\w)_|_(?!\w)", r"\\\g<0>", text)
    return re.sub(r"\s*[\r\n]+\s*", " ", escaped)


def markdown(table: pd.DataFrame) -> str:
    """A table in Markdown."""
    cells = [list(table.columns), *table.astype(str).to_numpy().tolist()]
    lines = ["| " + " | ".join(map(literal, line)) + " |\n" for line in cells]
    return "".join([lines[0], "| " + " | ".join(["---"] * len(table.columns)) + " |\n", *lines[1:]])


def html_table(table: pd.DataFrame) -> str:
    """A table in HTML; no cell is cut, nothing in it is markup, and what is missing is empty."""
    with pd.option_context("display.max_colwidth", None):
        page: str = table.to_html(index=False, na_rep="")
    return page


def read_table(path: Path) -> pd.DataFrame:
    """A table as it was written: a name that looks like a number, or like `NA`, is a name."""
    header = pd.read_csv(path, nrows=0).columns
    names = dict.fromkeys((*PLACE, "metric", "selection", "views", "dtype", "kind", "name"), str)
    numbers = {column: [""] for column in header if column not in names}
    return pd.read_csv(path, dtype=names, keep_default_na=False, na_values=numbers)


def cost(plan: Plan, read: Read) -> pd.DataFrame:
    """What the run cost: wall-clock by stage, bytes by level.

    Lines of kind `stage`: jobs, their seconds in all, and the same in units of one individual training (the
    mean wall-clock of the teachers that were trained here). Lines of kind `level`: bytes of all stores, and
    bytes per image, where an image counts once per seed, so that this holds all teachers and views;
    `bytes_per_view` is that of all teachers and one view.
    """
    trained = [read(job)["seconds"] for job in plan.stage("train_teacher") if job.spec["recipe"] is not None]
    unit = sum(trained) / len(trained) if trained else float("nan")
    lines: list[dict[str, Any]] = []
    for stage in STAGES:
        seconds = [read(job)["seconds"] for job in plan.stage(stage)]
        if seconds:
            total = sum(seconds)
            lines.append(
                {
                    "kind": "stage",
                    "name": stage,
                    "jobs": len(seconds),
                    "seconds": round(total, 1),
                    "individual_trainings": round(total / unit, 3),
                    "individual_trainings_per_job": round(total / unit / len(seconds), 3),
                }
            )
    return pd.DataFrame(lines + _level_lines(plan, read)).convert_dtypes()


def _level_lines(plan: Plan, read: Read) -> list[dict[str, Any]]:
    """Bytes on disk of the arrays of all stores, by level; those of joint teachers are called targets."""
    stored: dict[str, int] = {}
    one_view: dict[str, float] = {}
    images: dict[str, dict[str, int]] = {}
    for job in [*plan.stage("cache_embeddings"), *plan.stage("cache_targets")]:
        dataset = job.upstream["dataset"]
        sizes = read(plan.jobs[dataset.directory])["result"]["sizes"]
        targets = job.stage == "cache_targets"
        for array, splits in stored_bytes(read(job)).items():
            name = "targets" if targets else array
            stored[name] = stored.get(name, 0) + sum(splits.values())
            views = {"train": job.spec["views"]}
            one_view[name] = one_view.get(name, 0) + sum(size / views.get(split, 1) for split, size in splits.items())
            images.setdefault(name, {})[f"{dataset.name} {job.spec['seed']}"] = (
                sizes["train"] if targets else sum(sizes.values())
            )
    return [
        {
            "kind": "level",
            "name": name,
            "bytes": stored[name],
            "bytes_per_image": round(stored[name] / sum(images[name].values()), 1),
            "bytes_per_view": round(one_view[name] / sum(images[name].values()), 1),
        }
        for name in sorted(stored)
    ]


def stored_bytes(manifest: dict[str, Any]) -> dict[str, dict[str, int]]:
    """Bytes of a store's chunks: array -> split -> bytes; scales count with their array."""
    found: dict[str, dict[str, int]] = {}
    for record in manifest["files"]:
        parts = Path(record["path"]).parts
        if len(parts) > 4 and parts[2] != "ids" and parts[3] == "c":  # STORE/split/array/c/...
            splits = found.setdefault(parts[2].removesuffix("_scale"), {})
            splits[parts[1]] = splits.get(parts[1], 0) + record["bytes"]
    return found
