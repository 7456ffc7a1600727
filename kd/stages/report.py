"""Make one table or one figure of a finished run, from what it reads of the run."""

from __future__ import annotations

from typing import Any

from kd.artefacts.manifest import finished_manifest, job_of, read_manifest
from kd.common.options import BaseOptions
from kd.jobs.run import Context, Outcome, stage_main
from kd.reporting.base import Kind, Row, Run
from kd.reporting.registry import load_report

# It is made again when what it reads was, even if that has the same key: seconds and, on a GPU, scores differ.
FOLLOWS = True


class RowSpec(BaseOptions):
    """A measured network; see `kd.reporting.base.Row`."""

    experiment: str
    dataset: str
    method: str
    level: str
    seed: int
    variant: str
    role: str
    """The artefact, among what the report reads."""


class Spec(BaseOptions):
    """Options that a table or figure depends on, beside the artefacts that it reads."""

    kind: Kind
    report: str
    """Name of the table or figure."""
    options: dict[str, Any]
    """Its own."""
    experiment: str
    datasets: list[str]
    seeds: list[int]
    selection: str
    title: str
    format: str
    rows: list[RowSpec]


def build(context: Context[Spec]) -> Outcome:
    """Read the manifests of what it reads, compute, and write its files."""
    spec = context.spec
    report = load_report(spec.kind, spec.report).model_validate(spec.options)
    manifests = {directory.absolute(): finished_manifest(directory) for directory in context.upstream.values()}
    jobs = {role: job_of(manifests[each.absolute()], each) for role, each in context.upstream.items()}
    for job in jobs.values() if report.READS_FILES else ():
        read_manifest(job)
    run = Run(
        experiment=spec.experiment,
        datasets=spec.datasets,
        seeds=spec.seeds,
        selection=spec.selection,
        title=spec.title,
        format=spec.format,
        jobs={job.directory: job for job in jobs.values()},
        rows=[Row(job=jobs[row.role], **row.model_dump(exclude={"role"})) for row in spec.rows],
        read=lambda job: manifests[job.directory],
    )
    report.write(run, context.directory)
    return Outcome({})


if __name__ == "__main__":
    stage_main(Spec, build, follows=FOLLOWS)
