"""Networks of a run by their names in the tables, for figures for which networks have to work."""

from __future__ import annotations

from collections.abc import Sequence

from kd.artefacts.job import Job
from kd.common.errors import UserError
from kd.reporting.base import Run


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
    networks = {
        (row.method, row.level): row.job
        for row in run.rows_of(dataset, experiment)
        if row.seed == run.seeds[0] and not row.variant and row.method != "joint_teacher"
    }
    found = {}
    for name in methods:
        meant = [place for place in networks if name in (place[0], _label(place))]
        if len(meant) != 1:
            what = "is a method of several levels" if meant else "is no method of a network that sees images"
            known = ", ".join(map(_label, meant or networks))
            raise UserError(f"methods: {name!r} {what}; expected some of {known or 'none'}")
        found[name] = networks[meant[0]]
    return found


def _label(place: tuple[str, str]) -> str:
    return " ".join(filter(None, place))
