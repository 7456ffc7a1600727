"""What a run cost: wall-clock by stage, bytes by level."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kd.artefacts.job import Job
from kd.reporting.base import Run, Table

if TYPE_CHECKING:
    import pandas as pd


class Report(Table):
    """`cost.csv` and `cost.html`."""

    CAPTION = """\
Wall-clock of all jobs of a stage, in seconds and in units of one individual training. Cached bytes by level:
*bytes_per_sample* holds all teachers and all stored views, *bytes_per_view* all teachers and one view.
"""

    def reads(self, run: Run) -> list[Job]:
        """Everything."""
        return list(run.jobs.values())

    def texts(self, run: Run) -> dict[str, str]:
        """The table."""
        from kd.reporting.layout import STYLE, html_table

        table = cost(run)
        return {"cost.csv": table.to_csv(index=False), "cost.html": STYLE + html_table(table)}


def cost(run: Run) -> pd.DataFrame:
    """Costs of the run: wall-clock by stage, bytes by level.

    Lines of kind `stage`: jobs, their seconds in all, and the same in units of one individual training (the
    mean wall-clock of the teachers that were trained here). Lines of kind `level`: bytes of all stores, and
    bytes per sample, where a sample counts once per seed, so that this holds all teachers and views;
    `bytes_per_view` is that of all teachers and one view.
    """
    import pandas as pd

    trained = [run.read(job)["seconds"] for job in run.stage("train_teacher") if job.spec["recipe"] is not None]
    unit = sum(trained) / len(trained) if trained else float("nan")
    lines: list[dict[str, Any]] = []
    for stage in dict.fromkeys(job.stage for job in run.jobs.values()):
        seconds = [run.read(job)["seconds"] for job in run.stage(stage)]
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
    return pd.DataFrame(lines + _level_lines(run)).convert_dtypes()


def _level_lines(run: Run) -> list[dict[str, Any]]:
    """Bytes on disk of the arrays of all stores, by level; those of joint teachers are called targets."""
    from kd.reporting.statistics import stored_bytes

    stored: dict[str, int] = {}
    one_view: dict[str, float] = {}
    samples: dict[str, dict[str, int]] = {}
    for job in [*run.stage("cache_embeddings"), *run.stage("cache_targets")]:
        dataset = run.upstream(job)["dataset"]
        sizes = run.read(dataset)["result"]["sizes"]
        targets = job.stage == "cache_targets"
        for array, splits in stored_bytes(run.read(job)).items():
            name = "targets" if targets else array
            stored[name] = stored.get(name, 0) + sum(splits.values())
            views = {"train": job.spec["views"]}
            one_view[name] = one_view.get(name, 0) + sum(size / views.get(split, 1) for split, size in splits.items())
            samples.setdefault(name, {})[f"{dataset.name} {job.spec['seed']}"] = (
                sizes["train"] if targets else sum(sizes.values())
            )
    return [
        {
            "kind": "level",
            "name": name,
            "bytes": stored[name],
            "bytes_per_sample": round(stored[name] / sum(samples[name].values()), 1),
            "bytes_per_view": round(one_view[name] / sum(samples[name].values()), 1),
        }
        for name in sorted(stored)
    ]
