"""Does one way do better than another one? Claims about a run, each answered from paired differences."""

from __future__ import annotations

import html
from collections.abc import Hashable
from math import isnan
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import MinLen

from kd.common.errors import UserError
from kd.common.options import BaseOptions
from kd.reporting.base import Run, Table

if TYPE_CHECKING:
    import pandas as pd

    from kd.reporting.statistics import Gain

COLUMNS = ("claim", "datasets", "pairs", "difference", "se", "p", "finding")


class Side(BaseOptions):
    """Networks of a run, as the tables name them."""

    method: str
    """Method as the tables call it, such as `student`."""
    level: str | None = None
    """Level, where the method has several."""
    experiment: str | None = None
    """Experiment in the tables; `null`: that of the config."""

    def __str__(self) -> str:
        return " ".join(filter(None, (self.experiment, self.method, self.level)))


class Claim(BaseOptions):
    """That one side does better than the other one."""

    claim: str
    """The claim in words, for the table."""
    better: Side
    """The side that does better, as the claim says."""
    worse: Side
    """The side that it does better than."""
    datasets: Annotated[list[str], MinLen(1)] | None = None
    """Datasets that it is about; `null`: all that both sides are measured on."""


class Report(Table):
    """`findings.csv`, `.md` and `.html`: a line for each claim."""

    CAPTION = """\
Claims, and what this run says of them: the difference in test acc@1 (multi-label: mAP) in points, the mean over pairs
of one dataset and one seed, with its standard error and the p-value of a paired t-test. A claim holds, or its opposite
does, where p < 0.05; else no difference is seen, which does not say that there is none.
"""
    claims: Annotated[list[Claim], MinLen(1)]
    """List of claims, one a line; their keys are below."""

    def check(self, run: Run) -> None:
        """Both sides of each claim are there, on a dataset that they have in common."""
        for number, claim in enumerate(self.claims):
            self._common(run, number, claim)

    def _common(self, run: Run, number: int, claim: Claim) -> list[str]:
        """Datasets that a claim is about."""
        found: list[set[str]] = []
        for name in ("better", "worse"):
            side: Side = getattr(claim, name)
            rows = [row for row in run.rows if _is(row, side, run.experiment) and not row.variant]
            levels = {row.level for row in rows}
            if not rows:
                raise UserError(f"claims.{number}.{name}: there is no {side} in the tables")
            if len(levels) > 1:
                known = ", ".join(sorted(levels))
                raise UserError(f"claims.{number}.{name}.level: {side} has several: {known}; say which")
            found.append({row.dataset for row in rows})
        common = [each for each in claim.datasets or run.datasets if each in found[0] & found[1]]
        lacking = [each for each in claim.datasets or () if each not in common]
        if lacking or not common:
            raise UserError(f"claims.{number}.datasets: {lacking or 'none'} of both {claim.better} and {claim.worse}")
        return common

    def texts(self, run: Run) -> dict[str, str]:
        """The table."""
        from kd.reporting.layout import STYLE, html_table, markdown

        table = self.table(run)
        shown = table.assign(datasets=table["datasets"].str.replace(" ", ", "))
        errors = zip(table["difference"], table["se"], strict=True)
        shown["difference"] = [f"{mean:+.2f}" + ("" if isnan(se) else f" ± {se:.2f}") for mean, se in errors]
        shown["p"] = ["" if isnan(p) else f"{p:.2g}" for p in table["p"]]
        shown = shown.drop(columns=["se", "pairs"])
        title = html.escape("What this run says of the claims")
        return {
            "findings.csv": table.to_csv(index=False),
            "findings.md": markdown(shown),
            "findings.html": f"{STYLE}<h3>{title}</h3>{html_table(shown)}",
        }

    def table(self, run: Run) -> pd.DataFrame:
        """`COLUMNS`: difference and standard error in points."""
        import pandas as pd

        from kd.reporting.statistics import headline, measurements, paired_gain

        measured = headline(measurements(run), run.selection)
        lines: list[tuple[Any, ...]] = []
        for number, claim in enumerate(self.claims):
            datasets = self._common(run, number, claim)
            scores = [self._scores(measured, side, datasets, run.experiment) for side in (claim.better, claim.worse)]
            gain = paired_gain(*scores)
            pairs = len(scores[0].keys() & scores[1].keys())
            lines.append((claim.claim, " ".join(datasets), pairs, *gain, finding(gain)))
        return pd.DataFrame(lines, columns=list(COLUMNS)).round({"difference": 3, "se": 3, "p": 5})

    @staticmethod
    def _scores(measured: pd.DataFrame, side: Side, datasets: list[str], experiment: str) -> dict[Hashable, float]:
        """The score of each dataset and seed."""
        lines = [line for line in measured.itertuples() if _is(line, side, experiment) and line.dataset in datasets]
        return {(line.dataset, line.seed): float(str(line.value)) for line in lines}


def _is(row: Any, side: Side, experiment: str) -> bool:
    """Whether a row of the tables is of a side."""
    named = (row.experiment, row.method) == (side.experiment or experiment, side.method)
    return named and side.level in (None, row.level)


def finding(difference: Gain) -> str:
    """What a difference says of a claim that it is positive."""
    if not difference.is_seen:
        return "no difference seen"
    return "holds" if difference.mean > 0 else "the opposite holds"
