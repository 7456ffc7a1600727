"""Tables from manifests: accuracy with its gain over individual teachers, and cost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from kd.jobs.job import Job
from kd.plan import STAGES, Plan, Row

Read = Callable[[Job], dict[str, Any]]

SUMMARY_COLUMNS = (
    "experiment",
    "dataset",
    "row",
    "level",
    "metric",
    "selection",
    "n_seeds",
    "mean",
    "std",
    "gain",
    "gain_se",
)
ROW_ORDER = (
    "individual",
    "single_dataset_kd",
    "single_dataset_kd_features",
    "joint_baseline",
    "joint_teacher",
    "student",
)


def measurements(rows: list[Row], read: Read) -> pd.DataFrame:
    """One line per network, seed, metric and selection: test accuracy in percent.

    Args:
        rows: measured networks.
        read: gives the manifest of a job.
    """
    lines = []
    for row in rows:
        for metric in read(row.job)["result"]["metrics"]:
            if metric["dataset"] == row.dataset:
                place = {key: getattr(row, key) for key in ("experiment", "dataset", "row", "level", "seed")}
                lines.append(place | {key: metric[key] for key in ("metric", "selection", "value")})
    return pd.DataFrame(lines)


def summary(measured: pd.DataFrame, datasets: list[str]) -> pd.DataFrame:
    """Mean and standard deviation over seeds, with the gain over the individual teacher of the dataset.

    `gain` is the mean over seeds of the difference, in points, to the individual teacher of the same seed;
    `gain_se` is the standard error of that mean (the standard deviation of the differences over the square
    root of their number), empty for one seed.

    Args:
        measured: as from `measurements`.
        datasets: in the order wanted.
    """
    pair = ["experiment", "dataset", "metric", "selection", "seed"]
    individual = measured[measured["row"] == "individual"].set_index(pair)["value"].rename("reference")
    joined = measured.join(individual, on=pair)
    joined["difference"] = joined["value"] - joined["reference"]
    place = list(SUMMARY_COLUMNS[:6])
    grouped = joined.groupby(place, sort=False)
    table: pd.DataFrame = grouped.agg(
        n_seeds=("value", "count"),
        mean=("value", "mean"),
        std=("value", "std"),
        gain=("difference", "mean"),
        gain_se=("difference", "sem"),
    ).reset_index()
    table.loc[table["row"] == "individual", ["gain", "gain_se"]] = float("nan")
    order = {"dataset": datasets, "row": list(ROW_ORDER)}
    keys = table[place].apply(lambda column: column.map(order[column.name].index) if column.name in order else column)
    table = table.loc[keys.sort_values(place, kind="stable").index, list(SUMMARY_COLUMNS)]
    rounded: pd.DataFrame = table.round(3)
    return rounded.reset_index(drop=True)


def readable(table: pd.DataFrame, selection: str) -> pd.DataFrame:
    """For people: acc@1 as mean ± std (gain), one line per row and level, one column per dataset."""
    chosen = table[(table["metric"] == "acc@1") & (table["selection"] == selection)].copy()
    chosen["text"] = [_cell(line) for _, line in chosen.iterrows()]
    lines = list(dict.fromkeys(zip(chosen["experiment"], chosen["row"], chosen["level"], strict=True)))
    cells = chosen.set_index(["experiment", "row", "level", "dataset"])["text"]
    return pd.DataFrame(
        [
            {"experiment": experiment, "row": row, "level": level}
            | {
                dataset: cells.get((experiment, row, level, dataset), "")
                for dataset in dict.fromkeys(chosen["dataset"])
            }
            for experiment, row, level in lines
        ]
    )


def _cell(line: Any) -> str:
    text = f"{line['mean']:.1f}"
    if line["n_seeds"] > 1:
        text += f" ± {line['std']:.1f}"
    return text if pd.isna(line["gain"]) else f"{text} ({line['gain']:+.1f})"


def markdown(table: pd.DataFrame) -> str:
    """A table in Markdown."""
    cells = [list(table.columns), ["---"] * len(table.columns), *table.astype(str).to_numpy().tolist()]
    return "".join("| " + " | ".join(line) + " |\n" for line in cells)


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
