"""Which tables and figures a run has, and what each of them reads."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from kd.artefacts.job import Job
from kd.common.errors import UserError
from kd.config.schema import ReportOptions
from kd.reporting.base import Report, Run
from kd.reporting.registry import reports
from kd.stages.report import RowSpec, Spec


@dataclass(frozen=True)
class PlannedReport:
    """A table or figure to be made.

    Attributes:
        name: of the artefact.
        spec: of the artefact.
        upstream: what it reads, by role.
        module: that makes it.
    """

    name: str
    spec: Spec
    upstream: dict[str, Job]
    module: str


def plan_reports(run: Run, options: ReportOptions) -> Iterator[PlannedReport]:
    """All tables and figures of a run: those without options, and those that the config has options for.

    Args:
        run: all of it.
        options: of the config.

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


def _plan_report(report: Report, run: Run) -> PlannedReport:
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
    name = f"{report.name()}-of-{re.sub('[^A-Za-z0-9_-]', '_', run.experiment)}"
    return PlannedReport(name, spec, {roles[job.directory]: job for job in jobs}, type(report).__module__)
