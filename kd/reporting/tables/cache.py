"""What students cost on disk and how good they are: by number of stored views, live, and by precision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kd.artefacts.job import Job
from kd.distillers.registry import parse_distiller
from kd.embeddings.options import CacheOptions
from kd.reporting.base import Run, Table

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("views", "dtype", "bytes_per_sample", "metric", "n_seeds", "mean", "std")
CACHED = ("prepare_dataset", "cache_embeddings", "cache_targets")


def students_and_stores(run: Run) -> list[Job]:
    """Students and stores from which the table is computed."""
    students = {row.job.directory for row in run.rows if row.job.stage == "distill_student"}
    return [job for job in run.jobs.values() if job.stage in CACHED or job.directory in students]


class Report(Table):
    """`cache.csv` and `cache.html`."""

    CAPTION = """\
What is stored for each student, and how good it is: the number of views (or live), the precision, the bytes of one
training sample (targets and the embeddings behind them), and acc@1 (multi-label: mAP) on test over seeds.
"""

    def reads(self, run: Run) -> list[Job]:
        """Students, stores and datasets."""
        return students_and_stores(run)

    def texts(self, run: Run) -> dict[str, str]:
        """The table."""
        from kd.reporting.layout import STYLE, html_table
        from kd.reporting.statistics import measurements

        table = cache_table(run, measurements(run))
        return {"cache.csv": table.to_csv(index=False), "cache.html": STYLE + html_table(table)}


def cache_table(run: Run, measured: pd.DataFrame) -> pd.DataFrame:
    """A line for each method and level of students that have a teacher, without sweeps: which it is, and `COLUMNS`.

    `views` is a number or `live`; `bytes_per_sample` what is stored of one training sample for this student: its
    targets, and the embeddings that they are made from, of as many views as it sees; `mean` and `std` over seeds
    of `metric` (acc@1, or mAP if the dataset is multi-label) on test, in percent.

    Args:
        run: finished.
        measured: as from `kd.reporting.statistics.measurements`.
    """
    import pandas as pd

    from kd.reporting.statistics import PLACE, headline

    names = PLACE[:4]
    scores = dict(list(headline(measured, run.selection).groupby(list(names), sort=False)))
    lines: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in run.rows:
        key = (row.experiment, row.dataset, row.method, row.level)
        taught = row.job.stage == "distill_student" and ("targets" in row.job.upstream or row.job.spec["live"])
        if not taught or row.variant or key in lines:
            continue
        values = scores[key]["value"]
        views = row.job.spec["views"]
        dtypes = {store.spec["cache"]["dtype"] for store, _ in _stores(run, row.job)}
        lines[key] = dict(zip(names, key, strict=True)) | {
            "views": "live" if views is None else str(views),
            "dtype": "/".join(sorted(dtypes)) or "float32",
            "bytes_per_sample": round(_bytes_per_sample(run, row.job, views or 0), 1),
            "metric": scores[key]["metric"].iloc[0],
            "n_seeds": len(values),
            "mean": round(values.mean(), 3),
            "std": round(values.std(), 3),
        }
    return pd.DataFrame(list(lines.values()), columns=[*names, *COLUMNS])


def _stores(run: Run, job: Job) -> list[tuple[Job, set[str]]]:
    """Stores that a student's targets come from, its own and those behind them, and the arrays it needs of each."""
    if "targets" not in job.upstream:
        return []
    store = run.upstream(job)["targets"]
    behind = [each for each in run.upstream(store).values() if each.stage == "cache_embeddings"]
    names = parse_distiller(job.spec["distiller"]).required(job.spec["level"]).names()
    return [(store, set(names)), *((each, {store.spec["level"]}) for each in behind)]


def _bytes_per_sample(run: Run, job: Job, views: int) -> float:
    from kd.reporting.statistics import stored_bytes

    samples = run.read(run.upstream(job)["dataset"])["result"]["sizes"]["train"]
    total = 0.0
    for store, arrays in _stores(run, job):
        stored, options = stored_bytes(run.read(store)), CacheOptions.model_validate(store.spec["cache"])
        total += sum(stored[options.stored_name(name)]["train"] for name in arrays) * views / store.spec["views"]
    return float(total / samples)
