"""What a table or a figure is: one file in `kd/reporting/tables` or `kd/reporting/figures`.

Each is an artefact as any other, with a key over what it reads, its options and its code, so it is made again when one
of these changes, and only then. Importing such a file is cheap, since the plan does: pandas, matplotlib and torch are
imported where something is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from kd.artefacts.files import write_text
from kd.artefacts.job import Job, Upstream
from kd.common.errors import UserError
from kd.common.options import BaseOptions

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawn

Kind = Literal["table", "figure", "analysis"]
Read = Callable[[Job], dict[str, Any]]
"""Gives the manifest of a finished artefact."""


@dataclass(frozen=True)
class Row:
    """One measured network: where its metrics belong in the tables."""

    experiment: str
    dataset: str
    method: str
    level: str
    seed: int
    job: Job
    variant: str = ""
    """Tells students of one method apart, as `option=value` of a sweep; "" for those that are not of one."""


@dataclass(frozen=True)
class Run:
    """The artefacts that a report is about: when planning, all of a run; when it is made, those that it reads.

    Attributes:
        experiment: of the config.
        datasets: in the order of the config.
        seeds: of the config.
        selection: weights whose test scores are shown.
        title: heading of figures.
        format: file format of figures.
        jobs: artefacts by directory, upstream first.
        rows: measured networks.
        read: gives the manifest of an artefact; nothing is finished when planning.
    """

    experiment: str
    datasets: list[str]
    seeds: list[int]
    selection: str
    title: str
    format: str
    jobs: Mapping[Path, Job]
    rows: Sequence[Row]
    read: Read

    def stage(self, stage: str) -> list[Job]:
        """All artefacts of a stage."""
        return [job for job in self.jobs.values() if job.stage == stage]

    def dataset(self, name: str) -> Job:
        """The artefact of a dataset."""
        return next(job for job in self.stage("prepare_dataset") if job.name == name)

    def upstream(self, job: Job) -> dict[str, Job]:
        """The upstream artefacts of an artefact by role, as far as they are in the run.

        Where it was made from a smaller store, which was enlarged since, the larger one stands for that.
        """
        found = {role: self.jobs.get(up.directory) or self._enlarged(up) for role, up in job.upstream.items()}
        return {role: each for role, each in found.items() if each is not None}

    def _enlarged(self, up: Upstream) -> Job | None:
        alike = (job for job in self.jobs.values() if (job.stage, job.name) == (up.stage, up.name))
        return next((job for job in alike if job.as_upstream(up.unread).identity == up.identity), None)

    def rows_of(self, dataset: str, experiment: str | None) -> list[Row]:
        """Rows of a dataset and an experiment; None: that of the config.

        Raises:
            UserError: there is no such dataset, or there are no rows. The text begins with the option that is wrong.
        """
        if dataset not in self.datasets:
            raise UserError(f"dataset: {dataset!r}, expected one of {', '.join(self.datasets)}")
        name = experiment or self.experiment
        found = [row for row in self.rows if (row.experiment, row.dataset) == (name, dataset)]
        if not found:
            known = dict.fromkeys(row.experiment for row in self.rows if row.dataset == dataset)
            raise UserError(
                f"experiment: {name!r} has no row for dataset {dataset!r}; those that have one:"
                f" {', '.join(known) or 'none'}"
            )
        return found


def each_once(jobs: Iterable[Job]) -> list[Job]:
    """The same artefacts, each once."""
    return list({job.directory: job for job in jobs}.values())


class Report(BaseOptions):
    """A table or a figure; its fields are its options in the config, under `reports.NAME`.

    Each file defines one subclass, of `Table` or of `Figure`, that is called `Report`. One without fields is made
    for every run that it `applies` to; others when the config has options for them.
    """

    KIND: ClassVar[Kind]
    READS_FILES: ClassVar[bool] = False
    """Whether it opens files of the artefacts that it reads, beside their manifests: then these are checked first."""
    CAPTION: ClassVar[str]
    """Below it in the report: plain text, in which `*name*` is a column."""

    @classmethod
    def name(cls) -> str:
        """The name of the file that defines it."""
        return cls.__module__.rsplit(".", 1)[-1]

    def applies(self, run: Run) -> bool:  # noqa: ARG002
        """Whether there is something to show."""
        return True

    def check(self, run: Run) -> None:
        """Raise a UserError if the options do not fit the run; its text begins with the option that is wrong."""

    def reads(self, run: Run) -> list[Job]:
        """Artefacts that it reads: by default the measured networks."""
        return each_once(row.job for row in run.rows)

    def write(self, run: Run, folder: Path) -> None:
        """Write its files.

        Args:
            run: with what `reads` gave, finished.
            folder: where to.
        """
        raise NotImplementedError


class Table(Report):
    """A table: text files, of which the report shows `NAME.html`."""

    KIND = "table"

    def texts(self, run: Run) -> dict[str, str]:
        """File name -> content."""
        raise NotImplementedError

    def write(self, run: Run, folder: Path) -> None:
        """Write its files."""
        for name, text in self.texts(run).items():
            write_text(folder / name, text)


class Figure(Report):
    """A figure: `NAME.svg`, or of another format."""

    KIND: ClassVar[Kind] = "figure"

    def draw(self, run: Run) -> Drawn:
        """The figure."""
        raise NotImplementedError

    def write(self, run: Run, folder: Path) -> None:
        """Draw it and write it."""
        from kd.reporting.drawing import save

        save(self.draw(run), folder / f"{self.name()}.{run.format}")
