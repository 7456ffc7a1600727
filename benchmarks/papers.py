"""Numbers that papers print, beside which ours can be read: from kd/reporting/tables/papers into the pages.

    python -m benchmarks.papers [NAME ...] [--page FILE]

NAME is one of `TABLES`. Nothing is measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from benchmarks.pages import Block, make_parser, pages_of, write_block
from benchmarks.rows import ROOT, table

FOLDER = "kd/reporting/tables/papers"


@dataclass(frozen=True)
class PaperTable:
    """A table to be made from the numbers of a paper.

    Attributes:
        paper: file in `FOLDER`.
        title: of the paper, with its venue.
        where: columns of the file, and the values of the numbers that are taken.
        lines: columns that say what a line of the table is of.
        across: columns that say what a column of the table is of.
    """

    paper: str
    title: str
    where: dict[str, list[str]]
    lines: tuple[str, ...]
    across: tuple[str, ...]


MLFD = "MLFD, *Multi-level feature distillation of joint teachers trained on distinct image datasets*"
L2D = "L2D, *Multi-label knowledge distillation*, ICCV 2023"
NETWORKS = {"teacher": "teacher network", "student": "student network"}  # the file has methods of these names, too
LINES = ("method", "level", "n_datasets")
TABLES = {
    "paper_single": PaperTable("mlfd", MLFD, {"table": ["S2"], "metric": ["acc@1"]}, LINES, ("dataset",)),
    "paper_number": PaperTable("mlfd", MLFD, {"table": ["S1"], "metric": ["acc@1"]}, LINES, ("dataset",)),
    "paper_controls": PaperTable(
        "mlfd", MLFD, {"table": ["S4", "S5", "S6"], "metric": ["acc@1"]}, ("experiment", *LINES), ("dataset",)
    ),
    "paper_action": PaperTable("mlfd", MLFD, {"table": ["S3"]}, LINES, ("dataset", "metric")),
    "paper_multi_label": PaperTable("l2d", L2D, {"metric": ["mAP"]}, ("dataset", *NETWORKS.values()), ("method",)),
}


def make_block(name: str) -> Block:
    """The block of one of `TABLES`."""
    made = TABLES[name]
    numbers = pd.read_csv(ROOT / FOLDER / f"{made.paper}.csv", dtype=str, keep_default_na=False)
    for column, values in made.where.items():
        numbers = numbers[numbers[column].isin(values)]
    numbers = numbers.rename(columns=NETWORKS)
    columns = numbers[list(made.across)].agg(" ".join, axis="columns")
    lines: dict[tuple[str, ...], dict[str, str]] = {}
    places = numbers[list(made.lines)].itertuples(index=False, name=None)
    for place, column, value in zip(places, columns, numbers["value"], strict=True):
        lines.setdefault(place, {})[column] = value
    header = [*made.lines, *dict.fromkeys(columns)]
    shown = table(
        [header, *([*place, *(of.get(each, "") for each in dict.fromkeys(columns))] for place, of in lines.items())]
    )
    where = ", ".join(f"table {each.removeprefix('S')}" for each in dict.fromkeys(numbers["table"]))
    metrics = " and ".join(dict.fromkeys(numbers["metric"]))
    printed = f"{metrics} in percent, as printed in {where} of the supplement of {made.title}."
    return Block(name, "python -m benchmarks.papers", shown, f"from `{FOLDER}/{made.paper}.csv`: {printed}")


def main() -> None:
    """Command line."""
    options = make_parser(__doc__, tuple(TABLES)).parse_args()
    pages = pages_of(options.names or TABLES, options.page)
    for name, page in pages.items():
        write_block(page, make_block(name))


if __name__ == "__main__":
    main()
