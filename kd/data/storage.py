"""Row-wise Zarr arrays: how they are chunked, sharded and checked, for images and embeddings alike."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec
from zarr.storage import LocalStore

from kd.jobs.errors import UserError

CHUNK_BYTES = 1 << 20
SHARD_BYTES = 32 << 20


def _rows_within(bytes_: int, row_bytes: int) -> int:
    """The largest power of two of rows that fits; powers of two, so that chunks divide shards."""
    return 1 << max(0, (bytes_ // row_bytes).bit_length() - 1)


def shard_rows(row_bytes: int) -> int:
    """Rows in a shard of about 32 MiB."""
    return _rows_within(SHARD_BYTES, row_bytes)


def create_rows(
    group: zarr.Group,
    name: str,
    rows: int,
    row_shape: tuple[int, ...],
    dtype: str,
    *,
    views: int = 0,
    shard: int | None = None,
) -> zarr.Array[Any]:
    """An empty array (rows, *row_shape), or (views, rows, *row_shape) if `views` is not 0.

    Touching a chunk costs about a millisecond of Python, so a chunk holds about 1 MiB; a shard is one file
    and must be written whole, so it holds about 32 MiB, or `shard` rows. Chunks carry a CRC32C, since Zarr
    otherwise hands out flipped bits in silence. Floats are filled with NaN, since a missing chunk otherwise
    reads as zeros.
    """
    row_bytes = row_size(row_shape, dtype)
    shard = shard or shard_rows(row_bytes)
    chunk = min(_rows_within(CHUNK_BYTES, row_bytes), shard, rows)
    shard = min(shard, -(-rows // chunk) * chunk) if rows <= shard else shard
    lead = (1,) if views else ()
    return group.create_array(
        name,
        shape=((views,) if views else ()) + (rows, *row_shape),
        dtype=dtype,
        chunks=(*lead, chunk, *row_shape),
        shards=(*lead, shard, *row_shape),
        compressors=[Crc32cCodec()],
        fill_value=np.nan if np.dtype(dtype).kind == "f" else 0,
        config={"write_empty_chunks": True},
    )


def row_size(row_shape: tuple[int, ...], dtype: str) -> int:
    """Bytes of one row."""
    return int(np.prod(row_shape, dtype=np.int64)) * np.dtype(dtype).itemsize


def blocks(rows: int, size: int) -> list[slice]:
    """Consecutive ranges of `size` rows; what to assign at a time where `size` is the rows of a shard."""
    return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]


def open_group(path: Path) -> zarr.Group:
    """Open a store for reading.

    Raises:
        UserError: there is none.
    """
    try:
        return zarr.open_group(path, mode="r")
    except FileNotFoundError as error:
        raise UserError(f"{path}: no Zarr store here; delete {path.parent} and run again") from error


def read_array(group: zarr.Group, name: str, view: int | None = None) -> np.ndarray:
    """A whole array, or one view of it, in memory.

    Raises:
        UserError: shards are missing or damaged.
    """
    array = group[name]
    assert isinstance(array, zarr.Array)
    lost = missing_shards(array)
    if lost:
        raise UserError(f"{group.store_path}/{name}: {lost} shards are missing; delete the artefact and run again")
    try:
        return np.asarray(array[...] if view is None else array[view])
    except (ValueError, OSError) as error:
        raise UserError(f"{group.store_path}/{name}: damaged ({error}); delete the artefact and run again") from error


def missing_shards(array: zarr.Array[Any]) -> int:
    """How many files of an array are not there; Zarr would read them as its fill value, in silence.

    Zarr's own count of initialised chunks is no help: it counts the chunks of edge shards that lie outside the array.
    """
    assert array.shards is not None
    assert isinstance(array.store, LocalStore)
    wanted = math.prod(-(-size // step) for size, step in zip(array.shape, array.shards, strict=True))
    files = (array.store.root / array.path / "c").rglob("*")
    return wanted - sum(1 for path in files if path.is_file() and not path.name.endswith(".partial"))
