"""What students cost on disk and how good they are: by number of stored views, live, and by precision."""

from __future__ import annotations

from typing import Any

import pandas as pd

from kd.distillers.registry import parse_distiller
from kd.embeddings.options import CacheOptions
from kd.evaluation.tables import PLACE, Read, headline, stored_bytes
from kd.jobs.job import Job
from kd.plan import Plan

ROW = PLACE[:4]
COLUMNS = (*ROW, "views", "dtype", "bytes_per_image", "metric", "n_seeds", "mean", "std")


def cache_table(plan: Plan, measured: pd.DataFrame, selection: str, read: Read) -> pd.DataFrame:
    """A line for each row of students that have a teacher, but those of sweeps: `COLUMNS`.

    `views` is a number or `live`; `bytes_per_image` what is stored of one training picture for this student: its
    targets, and the embeddings that they are made from, of as many views as it sees; `mean` and `std` over seeds
    of `metric` (acc@1, or mAP if the dataset is multi-label) on test, in percent.

    Args:
        plan: of the run.
        measured: as from `kd.evaluation.tables.measurements`.
        selection: weights that are meant.
        read: gives the manifest of a job.
    """
    scores = dict(list(headline(measured, selection).groupby(list(ROW), sort=False)))
    lines: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in plan.rows:
        key = (row.experiment, row.dataset, row.row, row.level)
        taught = row.job.stage == "distill_student" and ("targets" in row.job.upstream or row.job.spec["live"])
        if not taught or row.variant or key in lines:
            continue
        values = scores[key]["value"]
        views = row.job.spec["views"]
        lines[key] = dict(zip(ROW, key, strict=True)) | {
            "views": "live" if views is None else str(views),
            "dtype": _dtype(plan, row.job),
            "bytes_per_image": round(_bytes_per_image(plan, row.job, views or 0, read), 1),
            "metric": scores[key]["metric"].iloc[0],
            "n_seeds": len(values),
            "mean": round(values.mean(), 3),
            "std": round(values.std(), 3),
        }
    return pd.DataFrame(list(lines.values()), columns=list(COLUMNS))


def _stores(plan: Plan, job: Job) -> list[tuple[Job, set[str]]]:
    """Stores that a student's targets come from, its own and those behind them, and the arrays it needs of each."""
    if "targets" not in job.upstream:
        return []
    store = plan.jobs[job.upstream["targets"].directory]
    behind = [plan.jobs[up.directory] for up in store.upstream.values() if up.stage == "cache_embeddings"]
    names = parse_distiller(job.spec["distiller"]).needs(job.spec["level"]).names()
    return [(store, set(names)), *((each, {store.spec["level"]}) for each in behind)]


def _dtype(plan: Plan, job: Job) -> str:
    dtypes = {store.spec["cache"]["dtype"] for store, _ in _stores(plan, job)}
    return "/".join(sorted(dtypes)) or "float32"


def _bytes_per_image(plan: Plan, job: Job, views: int, read: Read) -> float:
    images = read(plan.jobs[job.upstream["dataset"].directory])["result"]["sizes"]["train"]
    total = 0.0
    for store, arrays in _stores(plan, job):
        stored, options = stored_bytes(read(store)), CacheOptions.model_validate(store.spec["cache"])
        total += sum(stored[options.stored_name(name)]["train"] for name in arrays) * views / store.spec["views"]
    return float(total / images)
