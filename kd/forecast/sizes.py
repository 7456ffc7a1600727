"""Sizes of what is written: Zarr arrays and groups, safetensors, and the files around them."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from kd.data.storage import array_layout, fill_value, row_size
from kd.jobs.files import CHECKSUM_BYTES

SPACES = 2  # Zarr indents its documents by as many


@dataclass(frozen=True)
class Size:
    """What something takes.

    Attributes:
        bytes: contents of its files, as its manifest counts them.
        files: as its manifest lists them.
        inodes: files and folders.
    """

    bytes: int = 0
    files: int = 0
    inodes: int = 0

    def __add__(self, other: Size) -> Size:
        return Size(self.bytes + other.bytes, self.files + other.files, self.inodes + other.inodes)

    def on_disk(self, block: int) -> int:
        """Bytes of a file system that gives whole blocks, at least one, to every file and folder; an upper bound."""
        return self.bytes + self.inodes * block


def file_size(count: int) -> Size:
    """One file of so many bytes."""
    return Size(count, 1, 1)


def group_size(attributes: dict[str, Any]) -> Size:
    """A Zarr group with nothing in it."""
    document = {"attributes": attributes, "zarr_format": 3, "node_type": "group"}
    return _document_size(document) + Size(inodes=1)


def array_size(
    rows: int,
    row_shape: tuple[int, ...],
    dtype: str,
    *,
    views: int = 0,
    chunk: int = 0,
    attributes: dict[str, Any] | None = None,
) -> Size:
    """An array that `kd.data.storage.create_rows` makes of the same arguments, once it is filled."""
    shape, chunks = array_layout(rows, row_shape, dtype, views, chunk)
    files = math.prod(-(-size // step) for size, step in zip(shape, chunks, strict=True))
    # The last chunk of a view is padded. Each chunk's place in every further axis is a folder of its own.
    content = files * (row_size(chunks, dtype) + CHECKSUM_BYTES)
    folders = 2 + views + files * len(row_shape)
    document = _array_document(shape, chunks, np.dtype(dtype), attributes or {})
    return _document_size(document) + Size(content, files, files + folders)


def _array_document(
    shape: tuple[int, ...], chunks: tuple[int, ...], dtype: np.dtype[Any], attributes: dict[str, Any]
) -> dict[str, Any]:
    fill = fill_value(dtype)
    bytes_codec: dict[str, Any] = {"name": "bytes"}
    if dtype.itemsize > 1:
        bytes_codec["configuration"] = {"endian": "little"}
    return {
        "shape": shape,
        "data_type": dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunks}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": "NaN" if math.isnan(fill) else fill,
        "codecs": [bytes_codec, {"name": "crc32c"}],
        "attributes": attributes,
        "zarr_format": 3,
        "node_type": "array",
        "storage_transformers": [],
    }


def _document_size(document: dict[str, Any]) -> Size:
    return file_size(len(json.dumps(document, indent=SPACES)))


def safetensors_bytes(tensors: dict[str, tuple[tuple[int, ...], str, int]]) -> int:
    """Bytes of a .safetensors file.

    Args:
        tensors: shape, name of the type and bytes of each, by name.
    """
    header: dict[str, Any] = {}
    end = 0
    for name, (shape, dtype, size) in sorted(tensors.items(), key=lambda item: (-_width(item[1]), item[0])):
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = len(json.dumps(header, separators=(",", ":")))
    return 8 + -(-text // 8) * 8 + end


def _width(tensor: tuple[tuple[int, ...], str, int]) -> int:
    """Bytes of one value: wide ones come first in the file."""
    shape, _, size = tensor
    return size // max(1, math.prod(shape))
