"""The form that every benchmark has: `measure(small=...)` gives rows, and its command prints them as a table."""

from __future__ import annotations

import argparse
import inspect
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
HEADER = ("what", "against", "number", "command")
SKIPPED = 3  # exit status


class UnavailableError(Exception):
    """What a benchmark needs is not here; the message says what."""


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        what: is measured.
        against: the reference, measured in the same run, if the values are ratios to it; "" if there is none.
        values: one for each round.
        unit: of the values; "" for ratios.

    Raises:
        ValueError: there is no value, or one is not finite and positive.
    """

    what: str
    against: str
    values: Sequence[float]
    unit: str = ""

    def __post_init__(self) -> None:
        if not self.values or not all(math.isfinite(value) and value > 0 for value in self.values):
            raise ValueError(f"{self.what}: measured {list(self.values)}, expected finite positive numbers")

    @property
    def number(self) -> str:
        """The median, and the range where there are several rounds."""
        shown = f"{rounded(statistics.median(self.values))} {self.unit}".strip()
        if len(self.values) == 1:
            return shown
        return f"{shown} ({rounded(min(self.values))} to {rounded(max(self.values))})"


def rounded(value: float) -> str:
    """Three digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}"


Measure = Callable[..., list[Row]]
"""Takes the keyword `small`: the same steps on so little data that they take seconds and their numbers mean nothing."""


def seconds(work: Callable[[], object]) -> float:
    """Seconds that some work takes, on a GPU too."""
    import torch

    started = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def table(lines: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; the first line is its header."""
    header, *others = lines
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (header, ["---"] * len(header), *others))


def lines_of(measure: Measure, *, small: bool) -> list[tuple[str, ...]]:
    """Measure, and give the cells of each line of the table, the header first; the last has the command for it."""
    command = f"`python -m benchmarks.{Path(inspect.getfile(measure)).stem}{' --small' if small else ''}`"
    return [HEADER, *((row.what, row.against, row.number, command) for row in measure(small=small))]


def parser(doc: str | None) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--small", action="store_true", help="so little that it takes seconds: its numbers mean nothing")
    return made


def main(measure: Measure) -> None:
    """Command line of a benchmark."""
    options = parser(sys.modules["__main__"].__doc__).parse_args()
    try:
        print(table(lines_of(measure, small=options.small)), end="")
    except UnavailableError as error:
        print(error)
        raise SystemExit(SKIPPED) from None
