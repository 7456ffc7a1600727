"""Rows of the tables: which networks are measured, and what their methods are called."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kd.artefacts.job import Job
from kd.common.errors import UserError
from kd.config.schema import Config
from kd.models.spec import Level
from kd.reporting.base import Row

VANILLA = "vanilla"


def individual_rows(config: Config, rows: list[Row], named: dict[tuple[str, str], Job]) -> Iterator[Row]:
    """The individual teacher of a dataset is a row of every experiment that the dataset is in.

    It is the one that students of the experiment have, else the first one trained on the dataset.
    """
    experiments = dict.fromkeys((row.experiment, row.dataset) for row in rows)
    trained = {teacher.dataset for teacher in config.teachers.values()}
    experiments |= dict.fromkeys((config.experiment, dataset) for dataset in config.datasets)
    teachers = _named_teachers(config)
    for experiment, dataset in experiments:
        if dataset in trained:
            teacher = teachers.get((experiment, dataset)) or config.individual(dataset)
            for seed in config.seeds:
                job = named["train_teacher", f"{teacher}-seed{seed}"]
                yield Row(experiment, dataset, "individual", "", seed, job)


def _named_teachers(config: Config) -> dict[tuple[str, str], str]:
    """Individual teachers that students have, by experiment and dataset."""
    return {
        (student.experiment or config.experiment, dataset): teacher
        for student in config.students.values()
        for dataset, teacher in config.individual_teachers(student).items()
    }


def check_rows(rows: list[Row]) -> None:
    """Raise a UserError if two networks would be one row of the tables."""
    seen: dict[tuple[Any, ...], Job] = {}
    for row in rows:
        place = (row.experiment, row.dataset, row.method, row.level, row.variant, row.seed)
        other = seen.setdefault(place, row.job)
        if other != row.job:
            raise UserError(
                f"config: {other.name} and {row.job.name} would be one row of the tables ({row.experiment},"
                f" {row.dataset}, {row.method} {row.level} {row.variant}); give one of them another `experiment`"
            )


def student_method(distiller: str, level: Level | None, *, joint: bool) -> str:
    """Method in the tables; MLFD's are called as its paper calls them, others by the distiller.

    Whoever its teacher is, vanilla learns from labels alone.
    """
    if distiller != "mlfd":
        return f"joint_{distiller}" if joint and distiller != VANILLA else distiller
    if joint:
        return "student"
    return "single_dataset_kd" if level == "L1" else "single_dataset_kd_features"
