"""`csv_manifest`: a CSV file with one row per image: path, labels and, optionally, split and group.

Of a single-label dataset the label column holds the class. Of a multi-label dataset it holds a list, `cat|dog`; or each
class has a column of its own, with 0 or 1. A label that looks like several, `cat|dog` or `cat;dog`, is an error unless
`task`, `label_separator` or `classes` says what is meant.

Fields are separated by commas, semicolons or tabs, whichever makes the path column one of the header's; the file is
UTF-8, with or without a byte order mark. White space around a field does not count, nor do empty lines at the end. A
row with more or fewer fields than the header, or a quote that does not end, is an error. Splits go by any common word:
`train`, `Training`, `val`, `valid`, `dev`, `TEST`, ….
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import MinLen
from pydantic import AfterValidator, model_validator

from kd.common.errors import UserError
from kd.common.options import each_once
from kd.data.options import Task
from kd.data.sources.base import SEPARATOR, SPLITS, Listing, check_keep, split_of
from kd.data.sources.clean import CleanList, ListEntry, ListOptions, clean_list, read_list, some, stripped
from kd.data.sources.files import IMAGES, Kind

TASKS = ("single_label", "multi_label")
NEEDED = ("path_column", "label_column")
"""Keys whose columns must be there. A column that another key names must be there, too, but not by its default."""

DELIMITERS = ",;\t"
LISTING = ("|", ";")
"""What joins names wherever it stands in a label; the further ones do where each part is a label of other rows."""
PERHAPS_LISTING = (",", "/", "+", "&")


def _named(value: str) -> str:
    value = stripped(value)
    if not value:
        raise ValueError("an empty name")
    return value


Name = Annotated[str, AfterValidator(_named)]
Names = Annotated[list[Name], MinLen(1), AfterValidator(each_once)]
Row = list[str]
Made = Callable[[ListEntry, Mapping[str, str]], ListEntry]


class Options(ListOptions):
    """The CSV file, which of its columns are read, and what is done about its faults."""

    csv: Path
    """The CSV file, with a header line."""
    root: Path | None = None
    """Folder that relative paths start from; `null`: the folder of the CSV file."""
    path_column: Name = "path"
    """Column with the path of the image or video."""
    label_column: Name = "label"
    """Column with the class name, in a multi-label dataset with names joined by `label_separator`."""
    split_column: Name = "split"
    """Column with train, val or test, or a common word for one of them; where there is none, the `split` section
    decides."""
    group_column: Name | None = None
    """Column with the name of a group, such as who is shown: no draw of a split cuts it apart. A row without one is a
    group by itself."""
    label_separator: Annotated[str, MinLen(1)] | None = SEPARATOR
    """What joins the names of several labels in one cell; `null`: nothing does, each cell is one name as it stands."""
    label_columns: Names | Literal["all"] | None = None
    """Instead of a label column: columns with 0 or 1, one for each class; `all`: every column but those that the keys
    of other columns name, such as `path_column`."""
    classes: Names | None = None
    """The class list; `null`: the classes that occur."""
    task: Task = "single_label"
    """The task of the dataset. Filled in by the program."""

    @model_validator(mode="after")
    def _keep_is_for_many_labels(self) -> Options:
        check_keep(self.unlabelled, self.task)
        return self

    @property
    def folder(self) -> Path:
        """The folder that relative paths start from."""
        return self.root or self.csv.parent

    @property
    def columns(self) -> dict[str, str]:
        """Keys that name a column, and these names; without `label_column` where `label_columns` stand instead."""
        unread = ["label_column"] if self.label_columns else []
        keys = [key for key in type(self).model_fields if key.endswith("_column") and key not in unread]
        return {key: name for key in keys if (name := getattr(self, key))}

    @model_validator(mode="after")
    def _columns_have_one_meaning(self) -> Options:
        classes = self.label_columns if isinstance(self.label_columns, list) else []
        named = [*self.columns.items(), *(("label_columns", name) for name in classes)]
        for name in {name for _, name in named}:
            keys = [key for key, column in named if column == name]
            if len(keys) > 1:
                raise ValueError(f"{' and '.join(keys)}: column {name!r} is named by both; expected by one of them")
        return self


def fingerprint(options: Options) -> dict[str, Any]:
    """Digests of the labels, and of path, size and modification time of every image that the file names."""
    return cleaned(options).fingerprint()


def read(options: Options) -> Listing:
    """One sample a row; ids are the paths as written in the file.

    Listed are the classes that the option names, or the columns that hold 0 and 1.
    """
    return cleaned(options).listing()


def cleaned(options: Options, kind: Kind = IMAGES, made: Made = lambda entry, _: entry) -> CleanList:
    """The checked list of files of a kind. `made` may change the entry that was read from a row."""
    found = records(options.csv, options.path_column)
    _, columns = next(found)
    label_columns = options.label_columns
    if label_columns == "all":
        others = options.columns.values()
        label_columns = [name for name in columns if name not in others]
    _check_header(options, columns, label_columns)
    listed = list(_listed(options, columns, label_columns, found, made))
    if not listed:
        raise UserError(f"{options.csv}: has a header but no rows")
    if label_columns is None:
        _ask_about_lists(options, listed)
    clean = clean_list(options.folder, listed, options, options.classes or label_columns, kind)
    for each in clean.images:
        if options.task == "single_label" and len(each.labels) != 1:
            raise UserError(f"{each.place}: labels are {list(each.labels)}, expected exactly one (task: single_label)")
    return clean


def records(file: Path, column: str, option: str = "source.csv") -> Iterator[tuple[int, Row]]:
    """Line and stripped fields of the header of a CSV file, which has a certain column, and of each row below it."""
    if not file.is_file():
        raise UserError(f"{option}: {file} is not a file")
    text = read_list(file, option)
    delimiter = _delimiter(column, text)
    columns: Row = []
    empty = None
    for line, fields in _parsed(file, text, delimiter):
        if not any(fields):
            empty = empty or line
            continue
        if empty is not None:
            raise UserError(f"{file}, line {empty}: is empty")
        if not columns:
            columns = fields
        if len(fields) != len(columns):
            raise UserError(
                f"{file}, line {line}: has {len(fields)} fields, expected {len(columns)} as in the header;"
                f" a field that holds {delimiter!r} must stand in double quotes"
            )
        yield line, fields
    if not columns:
        raise UserError(f"{file}: is empty, expected a header and rows")


def _delimiter(column: str, text: str) -> str:
    """The one that makes a column one of the header's."""
    header = re.split(r"[\r\n]", text, maxsplit=1)[0]
    for delimiter in DELIMITERS:
        columns = next(csv.reader([header], delimiter=delimiter, skipinitialspace=True), [])
        if column in map(stripped, columns):
            return delimiter
    return DELIMITERS[0]


def _parsed(file: Path, text: str, delimiter: str) -> Iterator[tuple[int, Row]]:
    """Records, each with the line that it begins in, their fields stripped."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    line = 1
    try:
        for whole in reader:
            fields = [stripped(field) for field in whole]
            # A quote is not seen as one where such white space stands ahead of it.
            hidden = (
                inner.startswith('"') and not outer.startswith('"') for outer, inner in zip(whole, fields, strict=True)
            )
            if fields != whole and any(hidden):
                raise UserError(f"{file}, line {line}: is not CSV (white space of another kind ahead of a quote)")
            yield line, fields
            line = reader.line_num + 1
    except csv.Error as error:
        what = error if "expected after" in str(error) else "a double quote opens a field, and none ends it"
        raise UserError(f"{file}, line {line}: is not CSV ({what})") from error


def _check_header(options: Options, columns: Row, label_columns: Row | None) -> None:
    """The header has all columns that are needed, once each."""
    if label_columns == []:
        raise UserError(f"{options.csv}: has no column of a class; its columns are {some(columns)}")
    counts, cases = Counter(columns), {column.casefold(): column for column in columns}
    for key, column in [*options.columns.items(), *(("label_columns", each) for each in label_columns or ())]:
        if not column:
            raise UserError(f"{options.csv}: column {columns.index('') + 1} has no name; expected that of a class")
        is_default = column == type(options).model_fields[key].default
        if not counts[column] and (key in NEEDED or not is_default):
            raise UserError(f"{options.csv}: has no column {column!r}; its columns are {some(columns)}")
        if not counts[column] and (other := cases.get(column.casefold())) and other not in (label_columns or ()):
            raise UserError(f"{options.csv}: has a column {other!r}, but no {column!r}; say source.{key}: {other}")
        if counts[column] > 1:
            raise UserError(f"{options.csv}: has {counts[column]} columns {column!r}, expected one")


def _listed(
    options: Options,
    columns: Row,
    label_columns: Row | None,
    found: Iterator[tuple[int, Row]],
    made: Made,
) -> Iterator[ListEntry]:
    """Each row, checked."""
    root, split_named = options.folder, cache(split_of)
    for line, fields in found:
        place, row = f"{options.csv}, line {line}", dict(zip(columns, fields, strict=True))
        path, word = row[options.path_column], row.get(options.split_column)
        if not path:
            raise UserError(f"{place}: column {options.path_column!r} is empty")
        split = None if word is None else split_named(word)
        if word is not None and split is None:
            raise UserError(f"{place}: split is {word!r}, expected one of {list(SPLITS)}")
        labels = _names(options, place, row) if label_columns is None else _marked(place, label_columns, row)
        group = (options.group_column and row.get(options.group_column)) or None
        yield made(ListEntry(path, root / path, labels, split, place, group), row)


def _marked(place: str, columns: list[str], row: Mapping[str, str]) -> tuple[str, ...]:
    """Columns that hold a 1."""
    for column in columns:
        if row[column] not in ("0", "1"):
            raise UserError(f"{place}: column {column!r} is {row[column]!r}, expected 0 or 1")
    return tuple(column for column in columns if row[column] == "1")


def _names(options: Options, place: str, row: Mapping[str, str]) -> tuple[str, ...]:
    """Labels that stand in one cell."""
    cell, separator = row[options.label_column], options.label_separator
    if not cell:
        return ()
    if options.task == "single_label" or separator is None:
        return (cell,)
    labels = tuple(stripped(label) for label in cell.split(separator))
    if not all(labels):
        raise UserError(f"{place}: column {options.label_column!r} is {cell!r}, expected names joined by {separator!r}")
    return labels


def _ask_about_lists(options: Options, listed: list[ListEntry]) -> None:
    """A label that looks like several is neither taken as one nor as several unless the user says which."""
    if options.label_separator is None:
        return
    known = {label for each in listed for label in each.labels}
    joined = {label: _joins(label, known, options) for label in known.difference(options.classes or ())}
    for each in listed:
        for label in each.labels:
            if (separator := joined.get(label)) is not None:
                raise UserError(f"{each.place}: label {label!r} {_question(options, separator)}")


def _question(options: Options, separator: str) -> str:
    single = options.task == "single_label"
    several = ["task: multi_label"] * single
    several += [f"source.label_separator: {separator!r}"] * (separator != options.label_separator)
    one = "say source.label_separator: null" if single else "list all classes in source.classes"
    return f"looks like several labels; if it is, say {' and '.join(several)}; if it is the name of one class, {one}"


def _joins(label: str, known: set[str], options: Options) -> str | None:
    """A separator that seems to join several names in a label."""
    assert options.label_separator is not None
    if options.label_separator != SEPARATOR:  # the user has said what joins names
        return options.label_separator if options.label_separator in label else None
    for separator in (*LISTING, *PERHAPS_LISTING):
        parts = [stripped(part) for part in label.split(separator)]
        if len(parts) > 1 and (separator in LISTING or known.issuperset(parts)):
            return separator
    return None
