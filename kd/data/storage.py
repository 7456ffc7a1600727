"""Row-wise Zarr arrays, for images and embeddings alike: one chunk per file, raw, with a checksum.

An array is (rows, ...) or (views, rows, ...). A chunk is some consecutive rows of one view: 512 rows and 8 MiB at most,
but one row at least; of `labels` and `ids` it is all rows. Its file lies in the folder of the array, and is named by
its place along each axis: `c.1.0.0` is the first chunk of view 1 of an array of vectors. It holds the values as they
are (little-endian, C order, chunks at an end padded to full size), and then their CRC32C. So a chunk can also be read,
or mapped into memory, as the file it is. A missing chunk reads as NaN, or as an end of the range of an integer type,
since Zarr says nothing about it; `python -m kd verify` does.

Zarr (its format 3) writes the files, and whatever knows Zarr reads them. Here they are read as the files they are, at
the speed of the disk: Zarr itself would take longer than that, and several copies of every chunk.

The attribute `format` of the root says of which format of this program a store is; others than the present one are
refused. In format 4 each axis of a chunk's place was a folder, `c/1/0/0` for `c.1.0.0`. In format 3 datasets had the
attributes `image_size`, `resize` and `ground`, which stand in `sample` now, beside `modality`.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import product
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec
from zarr.storage import LocalStore

from kd.artefacts.files import CHECKSUM_BYTES, PARTIAL, link_or_copy, remove
from kd.artefacts.manifest import load_manifest
from kd.common.errors import UserError, shown
from kd.data.provenance import MADE_FROM, begun_origin, origin_difference

FORMAT = 5  # of packed datasets and stores of embeddings and targets, as the docstring describes it
CHUNK_BYTES = 8 << 20
CHUNK_ROWS = 512
PIECE_BYTES = 512 << 10


def chunk_rows(rows: int, row_bytes: int) -> int:
    """Rows in a chunk: a power of two, of 8 MiB and 512 rows at most; or all rows where these are fewer.

    Large enough to be read at the speed of the disk and to be few files; small enough that chunks from all
    over an array, mixed in memory, are nearly as good as rows drawn at random.
    """
    fitting = 1 << max(0, (CHUNK_BYTES // max(1, row_bytes)).bit_length() - 1)
    return max(1, min(fitting, CHUNK_ROWS, rows))


def spans(stop: int, size: int, start: int = 0) -> list[slice]:
    """Consecutive ranges of `size` rows, from `start` to `stop`; the last one may be shorter."""
    return [slice(first, min(first + size, stop)) for first in range(start, stop, size)]


class RowArray:
    """An array of a store on disk, read and written in whole chunks of rows.

    Attributes:
        rows: their number.
        row_shape: shape of one row.
        dtype: of the values.
        views: length of the leading axis; 1 where there is none.
        chunk: rows in a chunk.
        row_bytes: bytes of one row of one view.
        attributes: whatever its writer noted.

    Raises:
        UserError: the array is not laid out as `create_rows` does it, or is larger than what lies on the disk.
    """

    def __init__(self, array: zarr.Array[Any], *, views: bool) -> None:
        assert isinstance(array.store, LocalStore)
        self._array = array.with_config({"write_empty_chunks": True})  # else a chunk of fill values is not written
        self._lead = views
        self.path = array.store.root / array.path
        codecs: Any = getattr(array.metadata, "codecs", ())
        raw = len(codecs) == 2 and isinstance(codecs[0], BytesCodec) and isinstance(codecs[1], Crc32cCodec)
        axis = int(views)
        shape: tuple[int, ...] = tuple(array.shape)
        chunks: tuple[int, ...] = tuple(array.chunks)
        whole = chunks[axis + 1 :] == shape[axis + 1 :] and all(size == 1 for size in chunks[:axis])
        numbers = np.dtype(array.dtype).kind in "fiu"
        if not raw or not whole or not numbers or len(shape) <= axis or 0 in chunks:
            found = shown(array.metadata)
            raise UserError(f"{self.path}: expected numbers in raw chunks of whole rows with a CRC32C, found {found}")
        self.views = shape[0] if views else 1
        self.rows, self.dtype = shape[axis], np.dtype(array.dtype)
        self.row_shape: tuple[int, ...] = shape[axis + 1 :]
        self.chunk = chunks[axis]
        self.row_bytes = math.prod(self.row_shape) * self.dtype.itemsize
        self.attributes = array.attrs.asdict()
        if array.store.read_only and self.rows and self.views:
            self._check_size(-(-self.rows // self.chunk) - 1, self.views - 1)

    def _check_size(self, chunk: int, view: int) -> None:
        """Refuse a chunk that is not there or has another size than the array says: before memory is taken for it."""
        path = self.file(chunk, view)
        try:
            size = path.stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(f"{path}: chunk is missing; {self._remedy()}") from None
        expected = self.chunk * self.row_bytes + CHECKSUM_BYTES
        if size != expected:
            raise UserError(f"{path}: {size} bytes, expected {expected}; {self._remedy()}")

    def file(self, chunk: int, view: int = 0) -> Path:
        """The file that holds a chunk."""
        place = (view,) * self._lead + (chunk,) + (0,) * len(self.row_shape)
        return self.path / self._array.metadata.encode_chunk_key(place)

    def write(self, rows: slice, values: np.ndarray, view: int = 0) -> None:
        """Store (rows, *row_shape) values; `rows` are whole chunks."""
        self._array[(view, rows) if self._lead else rows] = values

    def take_chunks(self, other: Path) -> None:
        """Take the chunks of an array of the same rows, by hard links where the file system has them."""
        for view, part in product(range(self.views), range(-(-self.rows // self.chunk))):
            target = self.file(part, view)
            source = other / target.relative_to(self.path)
            if source.is_file() and not target.exists():
                link_or_copy(source, target)

    def has(self, rows: slice, view: int = 0) -> bool:
        """Whether all chunks of some rows are there, and whole."""
        try:
            self.read(rows, view)
        except UserError:
            return False
        return True

    def read(self, rows: slice | None = None, view: int = 0, out: np.ndarray | None = None) -> np.ndarray:
        """Some consecutive rows of a view, checked; None: all.

        Args:
            rows: start and stop anywhere; whole chunks are read all the same.
            view: number of the view.
            out: (rows, *row_shape) of `dtype`, C-contiguous, to be filled and returned; None: made here.

        Raises:
            UserError: chunks are missing, cut off or damaged.
        """
        rows = rows or slice(0, self.rows)
        if out is None:
            for edge in {rows.start, rows.stop - 1} if rows.start < rows.stop else ():
                self._check_size(edge // self.chunk, view)
            out = np.empty((rows.stop - rows.start, *self.row_shape), self.dtype)
        for part in self.chunks(rows):
            self._read_chunk(part, view, out[part.start - rows.start : part.stop - rows.start])
        return out

    def chunks(self, rows: slice) -> Iterator[slice]:
        """Consecutive rows, cut where chunks end."""
        start = rows.start
        while start < rows.stop:
            stop = min((start // self.chunk + 1) * self.chunk, rows.stop)
            yield slice(start, stop)
            start = stop

    def _read_chunk(self, rows: slice, view: int, out: np.ndarray) -> None:
        """Fill `out` with rows of one chunk; all of the chunk is read and checked."""
        path = self.file(rows.start // self.chunk, view)
        self._check_size(rows.start // self.chunk, view)
        whole: np.ndarray = out if len(out) == self.chunk else np.empty((self.chunk, *self.row_shape), self.dtype)
        content = whole.reshape(-1).view(np.uint8)
        computed = 0
        with path.open("rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
            # In pieces: what has just been read is checked while it is in the processor's cache.
            for piece in spans(len(content), PIECE_BYTES):
                stream.readinto(content[piece].data)
                computed = google_crc32c.extend(computed, content[piece])
            checksum = stream.read(CHECKSUM_BYTES)
        if computed != int.from_bytes(checksum, "little"):
            raise UserError(f"{path}: does not have the CRC32C that it was written with; {self._remedy()}")
        if whole is not out:
            first = rows.start % self.chunk
            out[...] = whole[first : first + len(out)]

    def _remedy(self) -> str:
        store = next(parent for parent in self.path.parents if parent.suffix == ".zarr")
        return f"delete {store.parent} and run again"


def create_rows(
    group: zarr.Group,
    name: str,
    rows: int,
    row_shape: tuple[int, ...],
    dtype: str,
    *,
    views: int = 0,
    chunk: int = 0,
    attributes: dict[str, Any] | None = None,
) -> RowArray:
    """An array (rows, *row_shape), or (views, rows, *row_shape) if `views` is not 0, to be filled by `write`.

    Where it is already there, left by an interrupted writer, its chunks stay. Floats are filled with NaN and
    integers with an end of their range, since Zarr reads missing chunks as the fill value, in silence. With `chunk` 0
    `chunk_rows` says how many rows a chunk has; `attributes` are noted with the array.

    Raises:
        UserError: it is already there, and not of this layout.
    """
    shape, chunks = array_layout(rows, row_shape, dtype, views, chunk)
    if name not in group:
        group.create_array(
            name,
            shape=shape,
            dtype=dtype,
            chunks=chunks,
            compressors=[Crc32cCodec()],
            chunk_key_encoding={"name": "default", "separator": "."},  # with "/", each axis makes a folder
            fill_value=fill_value(np.dtype(dtype)),
            attributes=attributes,
        )
    array = open_rows(group, name, views=views > 0)
    found = (array.views, array.rows, *array.row_shape, array.chunk, array.dtype)
    if found != (views or 1, rows, *row_shape, chunks[int(views > 0)], np.dtype(dtype)):
        raise UserError(f"{array.path}: is laid out otherwise than wanted, {found}; delete it and run again")
    return array


def array_layout(
    rows: int, row_shape: tuple[int, ...], dtype: str, views: int, chunk: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of an array and of its chunks; for arguments see `create_rows`."""
    chunk = chunk or chunk_rows(rows, math.prod(row_shape) * np.dtype(dtype).itemsize)
    lead, chunk_lead = ((views,), (1,)) if views else ((), ())
    return (*lead, rows, *row_shape), (*chunk_lead, chunk, *row_shape)


def write_column(group: zarr.Group, name: str, values: np.ndarray) -> None:
    """Store (rows, ...) values in one chunk: labels or ids."""
    rows = create_rows(group, name, len(values), values.shape[1:], values.dtype.name, chunk=len(values))
    rows.write(slice(0, len(values)), values)


def fill_value(dtype: np.dtype[Any]) -> float | int:
    """The value that Zarr gives for missing chunks: NaN, or one end of the range of integers."""
    if dtype.kind == "f":
        return math.nan
    return np.iinfo(dtype).max if dtype.kind == "u" else np.iinfo(dtype).min


def open_rows(group: zarr.Group, name: str, *, views: bool = False) -> RowArray:
    """An array of a group; `views`: its first axis is that of the views.

    Raises:
        UserError: there is none of that name.
    """
    with zarr_errors(f"{group.store_path}/{name}"):
        array = group.get(name)
    if not isinstance(array, zarr.Array):
        raise UserError(f"{group.store_path}: holds no array {name}")
    return RowArray(array, views=views)


@contextmanager
def zarr_errors(store: object) -> Iterator[None]:
    """Say in one line that the description of a store cannot be read; Zarr raises whatever it meets."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise UserError(
            f"{store}: is no Zarr store that can be read ({shown(error)}); delete it and run again"
        ) from error


def create_group(path: Path) -> zarr.Group:
    """The store at a path, made if it is not there.

    Removed is what a killed writer left half written, and a store that is another artefact's.
    """
    origin, found = begun_origin(path.parent), None
    with suppress(UserError):  # not there, or cut short
        found = read_group(path).attrs.asdict().get(MADE_FROM)
    if path.is_dir() and found != origin:
        shutil.rmtree(path)
    for partial in path.rglob(f"*{PARTIAL}"):
        remove(partial)
    root = zarr.open_group(path, mode="a")
    root.attrs.update({"format": FORMAT} | ({} if origin is None else {MADE_FROM: origin}))
    return root


def read_group(path: Path) -> zarr.Group:
    """A store, of whatever format and artefact, for reading.

    Raises:
        UserError: there is none that can be read.
    """
    try:
        with zarr_errors(path):
            return zarr.open_group(path, mode="r", zarr_format=3)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no Zarr store here; delete {path.parent} and run again") from error


def open_group(path: Path) -> zarr.Group:
    """Open a store for reading.

    Raises:
        UserError: there is none, it was written by another version of this program, or it is another
            artefact's than the manifest beside it says.
    """
    root = read_group(path)
    attributes: dict[str, Any] = root.attrs.asdict()
    found = attributes.get("format")
    if found != FORMAT:
        remedy = "update kd" if isinstance(found, int) and found > FORMAT else f"delete {path.parent} and run again"
        raise UserError(f"{path}: has format {shown(repr(found))}, this version of kd reads format {FORMAT}; {remedy}")
    manifest = load_manifest(path.parent)
    wrong = None if manifest is None else origin_difference(attributes.get(MADE_FROM), manifest)
    if wrong is not None:
        raise UserError(
            f"{path}: is the store of another artefact than its manifest says: {wrong}; delete {path.parent} and run"
            " again"
        )
    return root
