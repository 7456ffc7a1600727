"""`csv_manifest`: a CSV file with one row per picture: path, label and, optionally, split."""

from __future__ import annotations

import csv
import hashlib
from functools import partial
from pathlib import Path
from typing import Any

from kd.data.sources.base import SPLITS, Sample
from kd.data.sources.listing import listing_digest, open_image
from kd.jobs.errors import UserError
from kd.options import BaseOptions

CHANNELS = 3


class Options(BaseOptions):
    """Which file, and which of its columns."""

    csv: Path
    """The CSV file, with a header line."""
    root: Path | None = None
    """Folder that relative picture paths start from; default: the folder of the CSV file."""
    path_column: str = "path"
    """Column with the path of the picture."""
    label_column: str = "label"
    """Column with the class name."""
    split_column: str = "split"
    """Column with train, val or test; if the file has no such column, the `split` section decides."""


def fingerprint(options: Options) -> dict[str, Any]:
    """Digest of the CSV file, and of path, size and modification time of every picture it names."""
    paths = [_resolve(options, row[options.path_column]) for row in _rows(options)]
    return {
        "csv": hashlib.sha256(options.csv.read_bytes()).hexdigest(),
        "listing": listing_digest(options.root or options.csv.parent, paths),
    }


def samples(options: Options) -> list[Sample]:
    """One sample a row; ids are the paths as written in the file."""
    return [
        Sample(
            id=row[options.path_column],
            label=row[options.label_column],
            open=partial(open_image, _resolve(options, row[options.path_column])),
            split=row.get(options.split_column),
        )
        for row in _rows(options)
    ]


def _resolve(options: Options, path: str) -> Path:
    return (options.root or options.csv.parent) / path


def _rows(options: Options) -> list[dict[str, str]]:
    """All rows, checked: needed columns, no empty cell, known splits, no picture twice."""
    if not options.csv.is_file():
        raise UserError(f"source.csv: {options.csv} is not a file")
    try:
        text = options.csv.read_text(encoding="utf-8-sig")
        reader = csv.DictReader(text.splitlines())
        columns = reader.fieldnames or []
        rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{options.csv}: is not a CSV file in UTF-8 ({error})") from error
    for column in (options.path_column, options.label_column):
        if column not in columns:
            raise UserError(f"{options.csv}: has no column {column!r}; its columns are {list(columns)}")
    if not rows:
        raise UserError(f"{options.csv}: has a header but no rows")
    needed = [name for name in (options.path_column, options.label_column, options.split_column) if name in columns]
    seen: set[str] = set()
    for number, row in enumerate(rows, start=2):
        for column in needed:
            if not row[column]:
                raise UserError(f"{options.csv}, line {number}: column {column!r} is empty")
        if options.split_column in columns and row[options.split_column] not in SPLITS:
            raise UserError(
                f"{options.csv}, line {number}: split is {row[options.split_column]!r}, expected one of {list(SPLITS)}"
            )
        if row[options.path_column] in seen:
            raise UserError(f"{options.csv}, line {number}: {row[options.path_column]} is listed twice")
        seen.add(row[options.path_column])
    return rows
