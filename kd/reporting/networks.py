"""Networks of a run by their names in the tables, for figures of some of them."""

from __future__ import annotations

from collections.abc import Sequence

from kd.artefacts.job import Job
from kd.common.errors import UserError
from kd.reporting.base import Row, Run


def networks_by_method(run: Run, dataset: str, experiment: str | None, methods: Sequence[str]) -> dict[str, Job]:
    """Jobs of networks that see the samples of a dataset, of the first seed, by the names given.

    Args:
        run: whose.
        dataset: that they are measured on.
        experiment: in the tables; None: the config's.
        methods: names in the tables; where a method has several levels, with the level: `student L2`.

    Raises:
        UserError: there is no such method, it has several levels, or its network sees embeddings. The text begins with
            the option that is wrong.
    """
    rows = [
        row
        for row in run.rows_of(dataset, experiment)
        if row.seed == run.seeds[0] and not row.variant and row.method != "joint_teacher"
    ]
    found = rows_by_method(rows, methods, "is no method of a network that sees images")
    return {name: row.job for name, (row,) in found.items()}


def rows_by_method(rows: Sequence[Row], methods: Sequence[str], unknown: str) -> dict[str, list[Row]]:
    """Rows of an experiment and dataset by the names given, such as those of all seeds.

    Args:
        rows: to be found.
        methods: as in `networks_by_method`.
        unknown: what is said of a name that none of them has.

    Raises:
        UserError: there is no such method, or it has several levels. The text begins with the option that is wrong.
    """
    by_place: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        by_place.setdefault((row.method, row.level), []).append(row)
    found = {}
    for name in methods:
        meant = [place for place in by_place if name in (place[0], _label(place))]
        if len(meant) != 1:
            what = "is a method of several levels" if meant else unknown
            known = ", ".join(map(_label, meant or by_place))
            raise UserError(f"methods: {name!r} {what}; expected some of {known or 'none'}")
        found[name] = by_place[meant[0]]
    return found


def _label(place: tuple[str, str]) -> str:
    return " ".join(filter(None, place))
