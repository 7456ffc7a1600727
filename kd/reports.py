"""What `reports` asks for, checked against the rows of a plan. Imports neither pandas nor torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from kd.config import AttentionConfig, Config, PaperConfig
from kd.evaluation.papers import printed_numbers
from kd.jobs.errors import UserError
from kd.jobs.job import Job

if TYPE_CHECKING:
    from kd.plan import Row


def check_reports(config: Config, rows: Sequence[Row]) -> None:
    """Raise a UserError that says each option of `reports` that does not fit the rows, or the papers' numbers."""
    problems = list(_problems(config, rows))
    if problems:
        raise UserError("config: " + "\n        ".join(problems))


def _problems(config: Config, rows: Sequence[Row]) -> Iterator[str]:
    reports = config.reports
    if reports.attention is not None:
        try:
            attended_rows(config, reports.attention, rows)
        except UserError as error:
            yield f"reports.attention.{error}"
    for number, paper in enumerate(reports.papers):
        try:
            rows_of(config, paper, rows)
            printed_numbers(paper.paper, paper.where)
        except UserError as error:
            yield f"reports.papers.{number}.{error}"


def rows_of(config: Config, options: AttentionConfig | PaperConfig, rows: Sequence[Row]) -> list[Row]:
    """Rows of the experiment and dataset that a report is about.

    Raises:
        UserError: there are none. The text begins with the option that is wrong.
    """
    experiment = options.experiment or config.experiment
    found = [row for row in rows if (row.experiment, row.dataset) == (experiment, options.dataset)]
    if not found:
        known = dict.fromkeys(row.experiment for row in rows if row.dataset == options.dataset)
        raise UserError(
            f"experiment: {experiment!r} has no row for dataset {options.dataset!r}; those that have one:"
            f" {', '.join(known) or 'none'}"
        )
    return found


def attended_rows(config: Config, options: AttentionConfig, rows: Sequence[Row]) -> dict[str, Job]:
    """What made the networks whose attention is shown: of the first seed, by the names in `options.rows`.

    Raises:
        UserError: there is no such row, it has several levels, or its network sees no pictures. The text begins with
            the option that is wrong.
    """
    networks = {
        (row.row, row.level): row.job
        for row in rows_of(config, options, rows)
        if row.seed == config.seeds[0] and not row.variant and row.row != "joint_teacher"
    }
    found = {}
    for name in options.rows:
        meant = [place for place in networks if name in (place[0], _label(place))]
        if len(meant) != 1:
            what = "is a row of several levels" if meant else "is no row of a network that sees pictures"
            known = ", ".join(map(_label, meant or networks))
            raise UserError(f"rows: {name!r} {what}; expected some of {known or 'none'}")
        found[name] = networks[meant[0]]
    return found


def _label(place: tuple[str, str]) -> str:
    return " ".join(filter(None, place))
