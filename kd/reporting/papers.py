"""Numbers that papers print, from their supplements: `papers/NAME.csv`. Imports no pandas, since the plan reads them.

`mlfd`: multi-level feature distillation of joint teachers trained on distinct image datasets; columns table,
experiment, level, n_datasets, method, dataset, metric, value. `l2d`: multi-label knowledge distillation (Yang et al.,
ICCV 2023); columns table, setting, dataset, teacher, student, method, metric, value. Values are in percent.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from kd.common.errors import UserError

PAPERS = Path(__file__).with_suffix("")
OUR_NAMES = {
    "l2d": {"teacher": "individual", "student": "vanilla"},
    "mlfd": {
        "joint": "joint_teacher",
        "individual_light": "individual",
        "kd_light_to_light": "single_dataset_kd",
        "student_same_dataset": "student",
        "student_without_own_dataset": "student",
    },
}
"""What papers call methods, where we call them otherwise."""

Where = Mapping[str, str | int | Sequence[str | int]]


def printed_numbers(paper: str, where: Where) -> dict[tuple[str, str, str], float]:
    """The numbers that a paper prints, in percent, by method (our name), level (empty: none is given) and metric.

    Args:
        paper: `l2d` or `mlfd`.
        where: column -> value or values; what picks out one experiment on one dataset, such as
            {"table": "S3", "dataset": "voc2007", "teacher": "resnet50", "student": "resnet18"}.

    Raises:
        UserError: there is no such paper, column or value, or several numbers are for one method and metric. The text
            begins with the option that is wrong.
    """
    if paper not in OUR_NAMES:
        raise UserError(f"paper: {paper!r}, expected one of {', '.join(OUR_NAMES)}")
    with (PAPERS / f"{paper}.csv").open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        columns, lines = list(reader.fieldnames or []), list(reader)
    for column, wanted in where.items():
        if column not in columns:
            raise UserError(f"where: {paper}.csv has no column {column!r}, expected some of {', '.join(columns)}")
        values = [str(each) for each in ([wanted] if isinstance(wanted, str | int) else wanted)]
        known = dict.fromkeys(line[column] for line in lines)
        unknown = [value for value in values if value not in known]
        if unknown:
            raise UserError(f"where.{column}: {unknown[0]!r}, expected some of {', '.join(map(repr, known))}")
        lines = [line for line in lines if line[column] in values]
    found: dict[tuple[str, str, str], dict[str, str]] = {}
    for line in lines:
        place = (OUR_NAMES[paper].get(line["method"], line["method"]), line.get("level", ""), line["metric"])
        other = found.setdefault(place, line)
        if other is not line:
            told = " ".join(filter(None, place))
            differing = [column for column in columns if column != "value" and line[column] != other[column]]
            raise UserError(f"where: several numbers for {told}; pick out one experiment by {', '.join(differing)}")
    return {place: float(line["value"]) for place, line in found.items()}
