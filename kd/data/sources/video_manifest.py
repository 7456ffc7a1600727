"""`video_manifest`: a CSV file with one row per video, or per part of one, which is read as by `csv_manifest`.

It has a path, a label and, optionally, a split, a group, and the seconds that a part begins and ends at.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal

from kd.common.errors import UserError
from kd.data.sources import csv_manifest
from kd.data.sources.base import Listing
from kd.data.sources.clean import CleanList, ListEntry
from kd.data.sources.videos import VIDEOS

MODALITY = "clip"


class Options(csv_manifest.FileOptions):
    """The CSV file, which of its columns are read, and what is done about its faults."""

    group_column: csv_manifest.Name = "group"
    """Column with what no split may cut apart, such as who is filmed; where there is none: the path of the video."""
    start_column: csv_manifest.Name = "start"
    """Column with the second that a part begins at; where there is none: the beginning of the video."""
    end_column: csv_manifest.Name = "end"
    """Column with the second that a part ends at; where there is none: the end of the video."""
    missing: Literal["error", "skip"] = "error"
    """What is done about videos that are listed but not there."""
    unlabelled: Literal["error", "drop"] = "error"
    """What is done about videos without a label."""
    duplicates: Literal["error", "merge"] = "error"
    """What is done about videos, or parts of them, that are listed twice."""


def fingerprint(options: Options) -> dict[str, Any]:
    """Digests of what the file says, and of path, size and modification time of every video that it names."""
    return _cleaned(options).fingerprint()


def read(options: Options) -> Listing:
    """One sample a row; ids are the paths as written in the file, for parts with `#START-END` behind them."""
    return _cleaned(options).listing()


def _cleaned(options: Options) -> CleanList:
    times = options.start_column, options.end_column

    def made(entry: ListEntry, row: dict[str, str]) -> ListEntry:
        start = _seconds(entry.place, row, options.start_column, 0)
        end = _seconds(entry.place, row, options.end_column, math.inf)
        if end <= start:
            raise UserError(f"{entry.place}: ends at second {end:g}, expected one after that of its start")
        part = "-".join(row.get(column, "") for column in times)
        name = entry.id if part == "-" else f"{entry.id}#{part}"
        return replace(entry, id=name, group=row.get(options.group_column) or str(entry.identity()), part=(start, end))

    shared = {*csv_manifest.FileOptions.model_fields, "unlabelled", "duplicates"}
    listed = csv_manifest.Options(
        **options.model_dump(include=shared), missing_images=options.missing, label_separator=None
    )
    return csv_manifest.cleaned(listed, VIDEOS, (options.group_column, *times), made)


def _seconds(place: str, row: dict[str, str], column: str, otherwise: float) -> float:
    cell = row.get(column)
    if not cell:
        return otherwise
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise UserError(f"{place}: column {column!r} is {cell!r}, expected seconds")
    return value
