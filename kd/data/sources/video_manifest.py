"""`video_manifest`: a CSV file with one row per video, or per part of one, which is read as by `csv_manifest`.

It may also have columns with the seconds that a part begins and ends at.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from kd.common.errors import UserError
from kd.data.sources import csv_manifest
from kd.data.sources.base import Listing
from kd.data.sources.clean import CleanList, ListEntry
from kd.data.sources.videos import VIDEOS

MODALITY = "clip"
TASKS = csv_manifest.TASKS


class Options(csv_manifest.Options):
    """The CSV file, which of its columns are read, and what is done about its faults."""

    group_column: csv_manifest.Name | None = "group"
    """Column with the name of a group, such as who is filmed: no draw of a split cuts it apart. Rows without a group
    are grouped by their video. A video has one group: rows of one that have several are an error."""
    start_column: csv_manifest.Name = "start"
    """Column with the second that a part begins at; where there is none: the beginning of the video."""
    end_column: csv_manifest.Name = "end"
    """Column with the second that a part ends at; where there is none: the end of the video."""


def fingerprint(options: Options) -> dict[str, Any]:
    """Digests of what the file says, and of path, size and modification time of every video that it names."""
    return _cleaned(options).fingerprint()


def read(options: Options) -> Listing:
    """One sample a row; ids are the paths as written in the file, for parts with `#START-END` behind them."""
    return _cleaned(options).listing()


def _cleaned(options: Options) -> CleanList:
    return csv_manifest.cleaned(options, VIDEOS, partial(_part, options))


def _part(options: Options, entry: ListEntry, row: Mapping[str, str]) -> ListEntry:
    start = _seconds(entry, row, options.start_column, 0)
    end = _seconds(entry, row, options.end_column, math.inf)
    if end <= start:
        raise UserError(f"{entry.place}: ends at second {end:g}, expected one after that of its start")
    said = "-".join(row.get(column, "") for column in (options.start_column, options.end_column))
    name = entry.id if said == "-" else f"{entry.id}#{said}"
    group = entry.group or os.path.relpath(entry.path, options.folder)
    return replace(entry, id=name, group=group, part=(start, end))


def _seconds(entry: ListEntry, row: Mapping[str, str], column: str, otherwise: float) -> float:
    cell = row.get(column)
    if not cell:
        return otherwise
    with suppress(ValueError):
        if 0 <= float(cell) < math.inf:
            return float(cell)
    raise UserError(f"{entry.place}: column {column!r} is {cell!r}, expected seconds")
