"""`huggingface`: a dataset of the Hugging Face `datasets` library that is on disk, read without that library.

It is a folder that `save_to_disk` has written, or a copy of a repository of the hub with its Parquet or Arrow files. In
such a repository, the names of files, such as `train-00000-of-00005.parquet`, or of their folders say of which split
they are. No code of a repository is run, nothing is downloaded, and images must be in the files. Arrow files are mapped
into memory; of the images in a Parquet file, a job makes a plain copy among the temporary files (`TMPDIR` says where).
If there are further columns of the types Image and ClassLabel than those that are read, the job says so.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal, NamedTuple

from annotated_types import MinLen
from pydantic import model_validator

from kd.common.errors import UserError, shown
from kd.common.options import BaseOptions
from kd.data.options import Task
from kd.data.sources.base import Listing, Sample, SplitName, check_keep, noted, split_of
from kd.data.sources.clean import read_list, some, stripped
from kd.data.sources.files import find_files, image_of, readable, tree_digest
from kd.data.sources.members import spooled

if TYPE_CHECKING:
    import pyarrow as pa
    from PIL.Image import Image

TASKS = ("single_label", "multi_label")

IMAGE_NAMES = ("image", "img")
LABEL_NAMES = ("label", "labels")
CACHED = "files that hold what a dataset was changed to (cache-*.arrow) left out"
UNREAD = "splits that source.splits does not name left out"
ROWS = 64  # of a Parquet file, at a time
# A file is called after its split, and may have its number behind it, and a digest.
NUMBERED = re.compile(r"[-_.]?\d+(-of-\d+)?(-[0-9a-f]{6,})?$")

Name = Annotated[str, MinLen(1)]


class Options(BaseOptions):
    """The folder of the dataset, and which of its columns are read."""

    root: Path
    """A folder that `save_to_disk` has written, or one with the .parquet or .arrow files of one configuration."""
    image_column: Name | None = None
    """Column with the images; `null`: the first of type Image, else the one called `image` or `img`."""
    label_column: Name | None = None
    """Column with the classes; `null`: the first of type ClassLabel (for `multi_label` the first list of ClassLabel, if
    there is one), else the one called `label` or `labels`."""
    splits: dict[SplitName, Name] | None = None
    """Which of its splits is which of ours, such as `{train: train, test: validation}`; `null`: as their names say."""
    unlabelled: Literal["error", "drop", "keep"] = "error"
    """What is done about rows whose class is missing or -1; `keep`: they are images that show none of the classes."""
    task: Task = "single_label"
    """The task of the dataset. Filled in by the program."""

    @model_validator(mode="after")
    def _consistent(self) -> Options:
        check_keep(self.unlabelled, self.task)
        if self.splits is not None and "train" not in self.splits:
            raise ValueError(f"splits: has {sorted(self.splits)}, expected train among them")
        return self


def fingerprint(options: Options) -> dict[str, Any]:
    """Digest of path, size and modification time of all files in the folder."""
    return {"files": tree_digest(options.root)}


def read(options: Options) -> Listing:
    """One sample a row; ids are split and number of the row, such as `train/0000012`.

    Listed are the classes of a list of ClassLabel.
    """
    notes: Counter[str] = Counter()
    samples = []
    classes: set[str] = set()
    for split, files in _splits(options, notes).items():
        row = 0
        for file in files:
            table = _Table(options, file)
            classes.update(table.classes or ())
            for column in table.others:
                notes[f"further columns with images or classes left out ({column})"] = 1
            for number, value in enumerate(table.values):
                labels = table.names(number, value)
                name = f"{split}/{row + number:07d}" if split else f"{row + number:07d}"
                if labels or options.unlabelled == "keep":
                    samples.append(Sample(name, labels, partial(table.image, number), split))
                if not labels:
                    notes[f"rows without a class {'kept' if options.unlabelled == 'keep' else 'dropped'}"] += 1
            row += len(table.values)
    if not samples:
        raise UserError(f"source.root: {readable(options.root)} holds no row{noted(notes)}")
    listed = options.task == "multi_label" and classes
    return Listing(samples, dict(notes), sorted(classes) if listed else None)


# Files and splits


def _splits(options: Options, notes: Counter[str]) -> dict[str | None, list[Path]]:
    """The files of each split, in order; None: there are no splits."""
    found = _files(options, notes)
    root = readable(options.root)
    if options.splits is not None:
        missing = sorted(set(options.splits.values()) - {name or "" for name in found})
        if missing:
            raise UserError(f"source.splits: {root} has no split {missing[0]!r}; it has {sorted(map(str, found))}")
        unread = set(found) - set(options.splits.values())
        if unread:
            notes[UNREAD] = len(unread)
        return {split: found[name] for split, name in options.splits.items()}
    if set(found) == {None}:
        return found
    meant: dict[str | None, list[Path]] = {}
    for name, files in found.items():
        split = split_of(name or "")
        if split is None or split in meant:
            why = "is none of train, val and test" if split is None else f"is {split}, as another one is, too"
            raise UserError(f"source.root: {root}: split {name!r} {why}; say in source.splits which are to be read")
        meant[split] = files
    return meant


def _files(options: Options, notes: Counter[str]) -> dict[str | None, list[Path]]:
    """The files of each split, by the name that it has there; None: it has none."""
    root = options.root
    if not root.is_dir():
        raise UserError(f"source.root: {readable(root)} is not a folder")
    if (root / "dataset_dict.json").is_file():
        names = _described(root / "dataset_dict.json").get("splits")
        if not isinstance(names, list) or not names or not all(map(_is_name, names)):
            raise UserError(f"{readable(root / 'dataset_dict.json')}: splits is no list of names of folders")
        return {name: _saved(root, name) for name in names}
    if (root / "state.json").is_file():
        return {None: _saved(root, ".")}
    return _copied(root, options.splits, notes)


def _saved(root: Path, name: str) -> list[Path]:
    """The files that `save_to_disk` has written for a split."""
    state = root / name / "state.json"
    document = _described(state)
    files = document.get("_data_files")
    names = [each.get("filename") if isinstance(each, dict) else None for each in files or [None]]
    if not all(map(_is_name, names)):
        raise UserError(f"{readable(state)}: _data_files is no list of names of files")
    if document.get("_indices_data_files") or document.get("_indices_files"):
        raise UserError(f"{readable(state)}: only some rows of the files belong to it; save it with a newer `datasets`")
    return [root / name / str(each) for each in names]


def _is_name(name: Any) -> bool:
    """Whether it is the name of something in a folder, and leads nowhere else."""
    return isinstance(name, str) and name not in ("", "..") and name == PurePosixPath(name).name


def _described(file: Path) -> dict[str, Any]:
    """A description in JSON."""
    try:
        document = json.loads(read_list(file))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{readable(file)}: is not JSON ({shown(error)})") from error
    if not isinstance(document, dict):
        raise UserError(f"{readable(file)}: is JSON of another kind; expected an object")
    return document


def _copied(root: Path, splits: Any, notes: Counter[str]) -> dict[str | None, list[Path]]:
    """The files in a copy of a repository; their names, or those of their folders, say of which split they are."""
    names = [PurePosixPath(name) for name in find_files(root).files if name.endswith((".parquet", ".arrow"))]
    cached = [name for name in names if name.name.startswith("cache-")]
    if cached:
        notes[CACHED] = len(cached)
    found: dict[str | None, list[Path]] = {}
    folders: set[str] = set()
    for name in sorted(set(names) - set(cached)):
        word, folder = NUMBERED.sub("", name.stem), name.parent
        split = next((each for each in (word, word.rsplit("-", 1)[-1], folder.name) if split_of(each)), word)
        folders.add(str(folder.parent if split_of(folder.name) else folder))
        found.setdefault(split, []).append(root / name)
    if not found:
        wanted = "dataset_dict.json or state.json of save_to_disk, or .parquet or .arrow files"
        raise UserError(f"source.root: {readable(root)} holds no dataset; expected {wanted}")
    if len(folders) > 1:
        several = some(sorted(folders))
        raise UserError(f"source.root: {readable(root)} has datasets in several folders, {several}; name one of them")
    if not any(split_of(name or "") for name in found) and splits is None:
        return {None: [file for files in found.values() for file in files]}
    return found


# Tables


class Column(NamedTuple):
    """A column that is read: its name, and names of its classes by their numbers, if it has them."""

    name: str
    classes: list[str] | None = None


class _Table:
    """Rows of a file.

    Args:
        options: of the source.
        file: with Arrow's or Parquet's table.

    Attributes:
        others: columns that could have been meant, too.
        classes: names of classes, where the column of labels lists them.
        values: of that column, a list with one for each row.
    """

    def __init__(self, options: Options, file: Path) -> None:
        self.options, self.file = options, file
        self.store = self._read(lambda: (_Parquet if file.suffix == ".parquet" else _Arrow)(file))
        self.features: Mapping[str, Any] = self._read(lambda: _features(self.store.schema))
        images = [Column(name) for name, each in self.features.items() if _type(each) == "Image"]
        labels = self._labelled(many=options.task == "multi_label") or self._labelled(many=False)
        self.image_column = self._pick("image_column", images, IMAGE_NAMES)
        self.label_column = self._pick("label_column", labels, LABEL_NAMES)
        self.classes = self.label_column.classes
        self.values: list[Any] = self._read(lambda: self.store.column(self.label_column.name).to_pylist())
        unchosen = [(options.image_column, images), (options.label_column, labels)]
        self.others = [column.name for chosen, found in unchosen if chosen is None for column in found[1:]]

    def _labelled(self, *, many: bool) -> list[Column]:
        """Columns that list their classes."""
        return [Column(name, found) for name, each in self.features.items() if (found := _class_names(each, many=many))]

    def _pick(self, option: str, typed: list[Column], usual: tuple[str, ...]) -> Column:
        """The column that an option names, else the first of the type, else one with the usual name."""
        columns = self.store.schema.names
        wanted = getattr(self.options, option)
        if wanted is not None and wanted not in columns:
            raise UserError(f"source.{option}: {readable(self.file)} has no column {wanted!r}; it has {some(columns)}")
        if wanted is not None:
            feature = self.features.get(wanted)
            return Column(wanted, _class_names(feature, many=False) or _class_names(feature, many=True))
        named = [Column(name) for name in usual if name in columns]
        if not typed and not named:
            raise UserError(f"source.{option}: must be given: {readable(self.file)} has the columns {some(columns)}")
        return (typed or named)[0]

    def error(self, row: int, said: str) -> UserError:
        """What is wrong with a row."""
        return UserError(f"{readable(self.file)}, row {row}: {said}")

    def names(self, row: int, value: Any) -> tuple[str, ...]:
        """Class names of a row, sorted; none: it has none, which is not to be an error."""
        column = self.label_column.name
        if isinstance(value, list) and self.options.task == "single_label":
            raise self.error(row, f"{column} is a list; say task: multi_label, or another source.label_column")
        found = [self._name(row, each) for each in (value if isinstance(value, list) else [value])]
        labels = [name for name in found if name is not None]
        if len(found) > 1 and len(set(labels)) < len(found):
            raise self.error(row, f"{column} is {shown(value, 80)}, expected different classes, not 0 or 1 for each")
        if not labels and self.options.unlabelled == "error":
            said = f"{column} is {shown(value, 80)}, which is no class; say source.unlabelled: drop (or keep, in"
            raise self.error(row, f"{said} multi_label datasets), or name other splits in source.splits")
        return tuple(sorted(labels))

    def _name(self, row: int, value: Any) -> str | None:
        """The class that a value means; None: it stands for none."""
        if value is None or value in (-1, ""):
            return None
        classes = self.label_column.classes
        if isinstance(value, bool) or not isinstance(value, int | str):
            what = f"{self.label_column.name} is {shown(value, 80)!r}"
            raise self.error(row, f"{what}, expected the number or the name of a class")
        if isinstance(value, str):
            return stripped(value) or None
        if value < 0 or (classes is not None and value >= len(classes)):
            of = f" to {len(classes) - 1}" if classes else " or more"
            raise self.error(row, f"{self.label_column.name} is {value}, expected 0{of}")
        return str(value) if classes is None else classes[value]

    def image(self, row: int) -> Image:
        """The image of a row."""
        column = self.image_column.name
        content = self._read(lambda: self.store.image(column, row))
        if not isinstance(content, bytes):
            raise self.error(row, f"{column} is {shown(content, 80)}, expected the bytes of an image file")
        return image_of(content, f"{readable(self.file)}, row {row}")

    def _read(self, reading: Callable[[], Any]) -> Any:
        """What pyarrow reads, or its error in one line."""
        import pyarrow as pa

        try:
            return reading()
        except (pa.ArrowException, OSError, ValueError, LookupError) as error:
            raise UserError(f"{readable(self.file)}: cannot be read ({shown(error)}); get it again") from error


class _Arrow:
    """A file of Arrow's, mapped into memory."""

    def __init__(self, file: Path) -> None:
        import pyarrow as pa

        mapped = pa.memory_map(str(file))
        start = mapped.read(6)
        mapped.seek(0)
        self._table = (pa.ipc.open_file if start == b"ARROW1" else pa.ipc.open_stream)(mapped).read_all()
        self._table.validate(full=True)  # or numbers in a damaged file are taken for addresses in memory
        self.schema: pa.Schema = self._table.schema

    def column(self, name: str) -> pa.ChunkedArray:
        """All values of a column."""
        return self._table.column(name)

    def image(self, name: str, row: int) -> Any:
        """The bytes of an image file, or what is in their place."""
        return _content(self._table.column(name)[row].as_py())


class _Parquet:
    """A Parquet file. Rows cannot be read one by one, so their images are copied when the first of them is wanted."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.schema: pa.Schema = self._open().schema_arrow
        self._lock = threading.Lock()
        self._copy: BinaryIO | None = None
        self._places: list[tuple[int, int] | Any] = []

    def column(self, name: str) -> pa.ChunkedArray:
        """All values of a column."""
        return self._open().read(columns=[name]).column(name)

    def image(self, name: str, row: int) -> Any:
        """The bytes of an image file, or what is in their place."""
        with self._lock:
            if self._copy is None:
                self._copy = spooled(self, self._file, partial(self._write, name))
        place = self._places[row]
        return os.pread(self._copy.fileno(), *place) if isinstance(place, tuple) else place

    def _open(self) -> Any:
        from pyarrow import parquet

        return parquet.ParquetFile(self._file, page_checksum_verification=True)

    def _write(self, name: str, plain: BinaryIO) -> None:
        """Write all images behind one another, and note size and offset of each."""
        places: list[Any] = []
        end = 0
        for batch in self._open().iter_batches(ROWS, columns=[name]):
            for value in batch.column(0).to_pylist():
                content = _content(value)
                if isinstance(content, bytes):
                    plain.write(content)
                    places.append((len(content), end))
                    end += len(content)
                else:
                    places.append(content)
        self._places = places


def _content(value: Any) -> Any:
    """The bytes of an image: the library keeps them in a field, beside the path that they come from."""
    return value.get("bytes") or value if isinstance(value, dict) else value


def _features(schema: pa.Schema) -> Mapping[str, Any]:
    """The types of columns by their names, as the library notes them in JSON; empty: it has not written the file."""
    noted = (schema.metadata or {}).get(b"huggingface")
    document = json.loads(noted) if noted else {}
    info = document.get("info") if isinstance(document, dict) else None
    features = info.get("features") if isinstance(info, dict) else None
    return features if isinstance(features, dict) else {}


def _type(feature: Any) -> Any:
    return feature.get("_type") if isinstance(feature, dict) else None


def _class_names(feature: Any, *, many: bool) -> list[str] | None:
    """Names of the classes of a ClassLabel, or with `many` of a list of those, in the notation of any version."""
    if many and isinstance(feature, list) and len(feature) == 1:
        feature = feature[0]
    elif many:
        feature = feature.get("feature") if _type(feature) in ("Sequence", "List", "LargeList") else None
    names = feature.get("names") if _type(feature) == "ClassLabel" else None
    return names if isinstance(names, list) and all(isinstance(name, str) and name for name in names) else None
