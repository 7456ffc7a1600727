"""Tables and figures of a run: the networks that are their rows, and what each of them reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from kd.artefacts.job import Job
from kd.common.errors import UserError
from kd.config.reports import ReportOptions
from kd.config.schema import Config
from kd.models.spec import Level
from kd.reporting.base import Report, Row, Run
from kd.reporting.registry import reports
from kd.stages.report import RowSpec, Spec

VANILLA = "vanilla"


def individual_rows(config: Config, rows: list[Row], named: dict[tuple[str, str], Job]) -> Iterator[Row]:
    """The individual teacher of a dataset is a row of every experiment that the dataset is in.

    It is the one that students of the experiment have, else the first one trained on the dataset.
    """
    experiments = dict.fromkeys((row.experiment, row.dataset) for row in rows)
    trained = {teacher.dataset for teacher in config.teachers.values()}
    experiments |= dict.fromkeys((config.experiment, dataset) for dataset in config.datasets)
    teachers = {
        (student.experiment or config.experiment, dataset): teacher
        for student in config.students.values()
        for dataset, teacher in config.individual_teachers(student).items()
    }
    for experiment, dataset in experiments:
        if dataset in trained:
            teacher = teachers.get((experiment, dataset)) or config.individual(dataset)
            for seed in config.seeds:
                job = named["train_teacher", f"{teacher}-seed{seed}"]
                yield Row(experiment, dataset, "individual", "", seed, job)


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


def plan_reports(run: Run, options: ReportOptions) -> Iterator[tuple[Spec, dict[str, Job]]]:
    """All tables and figures of a run: those without options, and those that the config has options for.

    Of each its spec, and what it reads, by role.

    Raises:
        UserError: options do not fit the run; one message with all of them.
    """
    asked = {type(each): each for each in options.asked()}
    made = [asked.get(kind) or kind() for kind in reports() if kind in asked or not kind.model_fields]
    problems = []
    for each in made:
        try:
            each.check(run)
        except UserError as error:
            problems.append(f"reports.{each.name()}.{error}")
    if problems:
        raise UserError("config: " + "\n        ".join(problems))
    yield from (_plan_report(each, run) for each in made if each.applies(run))


def _plan_report(report: Report, run: Run) -> tuple[Spec, dict[str, Job]]:
    jobs = report.reads(run)
    # No keys in them: they would hold the code of what is read, which is for keys alone to say.
    names: Counter[str] = Counter()
    roles = {}
    for job in jobs:
        name = f"artefact:{job.stage}/{job.name}"
        names[name] += 1  # stores of one teacher may differ in precision alone
        roles[job.directory] = name if names[name] == 1 else f"{name}:{names[name]}"
    rows = [
        RowSpec(role=roles[row.job.directory], **{name: value for name, value in vars(row).items() if name != "job"})
        for row in run.rows
        if row.job.directory in roles
    ]
    drawn = report.KIND != "table"
    spec = Spec(
        kind=report.KIND,
        report=report.name(),
        options=report.model_dump(mode="json"),
        experiment=run.experiment,
        datasets=run.datasets,
        seeds=run.seeds,
        selection=run.selection,
        title=run.title if drawn else "",
        format=run.format if drawn else "",
        rows=rows,
    )
    return spec, {roles[job.directory]: job for job in jobs}
