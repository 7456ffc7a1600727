"""`csv_manifest`: a CSV file with one row per picture: path, labels and, optionally, split.

Of a single-label dataset the label column holds the class. Of a multi-label dataset it holds a list,
`cat|dog`; or each class has a column of its own, with 0 or 1.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import MinLen
from pydantic import field_validator, model_validator

from kd.data.options import Task
from kd.data.sources.base import SEPARATOR, SPLITS, Listing
from kd.data.sources.listed import Listed, ListOptions, Settled, settle
from kd.jobs.errors import UserError

CHANNELS = 3
TASKS: tuple[Task, ...] = ("single_label", "multi_label")

Names = Annotated[list[str], MinLen(1)]
Row = dict[str, str]


class Options(ListOptions):
    """Which file, and which of its columns."""

    csv: Path
    """The CSV file, with a header line."""
    root: Path | None = None
    """Folder that relative picture paths start from; default: the folder of the CSV file."""
    path_column: str = "path"
    """Column with the path of the picture."""
    label_column: str = "label"
    """Column with the class name, in a multi-label dataset with names joined by `|`."""
    label_columns: Names | Literal["all"] | None = None
    """Instead: columns with 0 or 1, one per class; all: every column but those of path and split."""
    split_column: str = "split"
    """Column with train, val or test; if the file has no such column, the `split` section decides."""
    classes: Names | None = None
    """The class list; null: the classes that occur."""
    task: Task = "single_label"
    """Of the dataset: filled in by the program."""

    @field_validator("classes", "label_columns")
    @classmethod
    def _each_once(cls, value: Names | str | None) -> Names | str | None:
        if isinstance(value, list) and len(set(value)) < len(value):
            raise ValueError("each name may stand once")
        return value

    @model_validator(mode="after")
    def _keep_is_for_many_labels(self) -> Options:
        if self.unlabelled == "keep" and self.task == "single_label":
            raise ValueError("unlabelled: keep needs task: multi_label")
        return self


def fingerprint(options: Options) -> dict[str, Any]:
    """Digests of the labels, and of path, size and modification time of every picture that the file names."""
    return _settled(options).fingerprint()


def classes(options: Options) -> list[str] | None:
    """Those of the option, or the columns with 0 and 1."""
    return _classes(options, _table(options)[0])


def read(options: Options) -> Listing:
    """One sample a row; ids are the paths as written in the file."""
    return _settled(options).listing()


def _settled(options: Options) -> Settled:
    columns, rows = _table(options)
    root = options.root or options.csv.parent
    listed = [_listed(options, columns, f"{options.csv}, line {number}", row) for number, row in rows]
    settled = settle(root, listed, options, _classes(options, columns))
    for each in settled.pictures:
        if options.task == "single_label" and len(each.labels) != 1:
            raise UserError(f"{each.place}: labels are {list(each.labels)}, expected exactly one (task: single_label)")
    return settled


def _label_columns(options: Options, columns: list[str]) -> list[str] | None:
    if options.label_columns == "all":
        return [name for name in columns if name not in (options.path_column, options.split_column)]
    return options.label_columns


def _classes(options: Options, columns: list[str]) -> list[str] | None:
    return options.classes or _label_columns(options, columns)


def _table(options: Options) -> tuple[list[str], list[tuple[int, Row]]]:
    """Columns, and all rows with the numbers of their lines; needed columns are there, once each."""
    if not options.csv.is_file():
        raise UserError(f"source.csv: {options.csv} is not a file")
    try:
        text = options.csv.read_text(encoding="utf-8-sig")
        reader = csv.DictReader(text.splitlines())
        columns = list(reader.fieldnames or [])
        rows = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{options.csv}: is not a CSV file in UTF-8 ({error})") from error
    needed = [options.path_column, *(_label_columns(options, columns) or [options.label_column])]
    for column in needed:
        if column not in columns:
            raise UserError(f"{options.csv}: has no column {column!r}; its columns are {columns}")
    for column in [*needed, options.split_column]:
        if columns.count(column) > 1:
            raise UserError(f"{options.csv}: has {columns.count(column)} columns {column!r}, expected one")
    if not rows:
        raise UserError(f"{options.csv}: has a header but no rows")
    return columns, rows


def _listed(options: Options, columns: list[str], place: str, row: Row) -> Listed:
    """A row, checked."""
    path = row[options.path_column]
    if not path:
        raise UserError(f"{place}: column {options.path_column!r} is empty")
    split = row[options.split_column] if options.split_column in columns else None
    if options.split_column in columns and split not in SPLITS:
        raise UserError(f"{place}: split is {split!r}, expected one of {list(SPLITS)}")
    labels = _labels(options, _label_columns(options, columns), place, row)
    return Listed(path, (options.root or options.csv.parent) / path, labels, split, place)


def _labels(options: Options, label_columns: list[str] | None, place: str, row: Row) -> tuple[str, ...]:
    if label_columns is not None:
        for column in label_columns:
            if row[column] not in ("0", "1"):
                raise UserError(f"{place}: column {column!r} is {row[column]!r}, expected 0 or 1")
        return tuple(column for column in label_columns if row[column] == "1")
    cell = row[options.label_column]
    if not cell:
        return ()
    if options.task == "single_label":
        return (cell,)
    labels = tuple(label.strip() for label in cell.split(SEPARATOR))
    if not all(labels):
        raise UserError(f"{place}: column {options.label_column!r} is {cell!r}, expected names joined by {SEPARATOR!r}")
    return labels
