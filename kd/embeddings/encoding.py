"""Between float tensors and what is on disk: precision, scales, resolution, label-wise embeddings of positives."""

from __future__ import annotations

import math
from pathlib import Path
from typing import cast

import numpy as np
import torch
import zarr
from torch import Tensor
from torch.nn import functional

from kd.common.errors import UserError, shown
from kd.data.storage import RowArray, create_rows, open_rows
from kd.embeddings.options import STORED_DTYPES, CacheOptions, Dtype
from kd.models.spec import MAP_LEVELS

IN_MEMORY = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "int8": torch.float16}
INT8_RANGE = 127


def reduce_map(values: Tensor, name: str, options: CacheOptions) -> Tensor:
    """(B, C, h, w) at the resolution that is stored, see `CacheOptions.shape`; what is no map stays as it is."""
    if name not in MAP_LEVELS:
        return values
    cells, stride = options.cells(name)
    if cells > 1:
        values = functional.avg_pool2d(values, cells, ceil_mode=True, count_include_pad=False)
    return values[..., ::stride, ::stride] if stride > 1 else values


class EncodedArray:
    """One named array of a store, as floats: (views, rows, ...) in some precision.

    int8 has `NAME_scale` beside it, float32 (views, chunks, C): the stored integer times the scale of its
    chunk and channel (the first axis of a row) is the value. So a value is off by half a scale at most, which
    is 1/254 of the largest value of the channel in the chunk. In memory values are float16.
    """

    def __init__(self, name: str, dtype: Dtype, array: RowArray, scales: RowArray | None) -> None:
        self.name, self.dtype, self.array, self.scales = name, dtype, array, scales
        self.rows, self.views, self.chunk, self.row_shape = array.rows, array.views, array.chunk, array.row_shape
        self.row_bytes = math.prod(array.row_shape) * IN_MEMORY[dtype].itemsize

    @classmethod
    def create(
        cls, group: zarr.Group, name: str, dtype: Dtype, views: int, rows: int, shape: tuple[int, ...]
    ) -> EncodedArray:
        """An array to be filled by `write`; what an interrupted writer left stays."""
        attributes = {"precision": dtype}
        array = create_rows(group, name, rows, shape, STORED_DTYPES[dtype], views=views, attributes=attributes)
        scales = None
        if dtype == "int8":
            chunks = -(-rows // array.chunk)
            scales = create_rows(group, f"{name}_scale", chunks, shape[:1], "float32", views=views, chunk=1)
        return cls(name, dtype, array, scales)

    @classmethod
    def open(cls, group: zarr.Group, name: str) -> EncodedArray:
        """An array for reading.

        Raises:
            UserError: there is none that can be read.
        """
        array = open_rows(group, name, views=True)
        dtype = cast("Dtype", array.attributes.get("precision"))
        if not isinstance(dtype, str) or array.dtype != STORED_DTYPES.get(dtype):
            raise UserError(
                f"{array.path}: precision: found {shown(dtype)} with {array.dtype}; delete it and run again"
            )
        scales = open_rows(group, f"{name}_scale", views=True) if dtype == "int8" else None
        return cls(name, dtype, array, scales)

    def take_chunks(self, other: Path) -> None:
        """Take the chunks of the same array in another store, by hard links where the file system has them."""
        for array in filter(None, (self.array, self.scales)):
            array.take_chunks(other.with_name(array.path.name))

    def has(self, rows: slice, view: int) -> bool:
        """Whether whole chunks are there and undamaged."""
        return self.array.has(rows, view) and (self.scales is None or self.scales.has(self._chunks(rows), view))

    def prepare(self, values: Tensor) -> Tensor:
        """(rows, ...) floats on any device, on the CPU in the precision that they are written from.

        Raises:
            UserError: a value is not finite, or too large for the precision.
        """
        converted = values.to(IN_MEMORY[self.dtype])
        if not torch.isfinite(converted).all():
            if not torch.isfinite(values).all():
                raise UserError(f"embeddings {self.name}: the teacher gives values that are not finite; train it again")
            largest, limit = values.abs().max().item(), torch.finfo(converted.dtype).max
            raise UserError(
                f"embeddings {self.name}: largest value {largest:g} does not fit {self.dtype} ({limit:g});"
                " take another caches dtype, such as bfloat16"
            )
        return (values.float() if self.dtype == "int8" else converted).detach().contiguous().cpu()

    def write(self, rows: slice, values: Tensor, view: int) -> None:
        """Store whole chunks of what `prepare` gave."""
        if self.scales is None:
            stored = values.view(torch.uint16) if self.dtype == "bfloat16" else values
            self.array.write(rows, stored.numpy(), view)
            return
        for part in self.array.chunks(rows):
            chunk = values[part.start - rows.start : part.stop - rows.start]
            scale = chunk.abs().amax(dim=[axis for axis in range(chunk.ndim) if axis != 1]) / INT8_RANGE
            integers = (chunk / _per_channel(scale.clamp(min=1e-30), chunk.ndim)).round().to(torch.int8)
            # The scale first: a chunk that is there has its scale.
            self.scales.write(self._chunks(part), scale[None].numpy(), view)
            self.array.write(part, integers.numpy(), view)

    def _chunks(self, rows: slice) -> slice:
        return slice(rows.start // self.chunk, -(-rows.stop // self.chunk))

    def empty(self, rows: int) -> Tensor:
        """Uninitialised, (rows, ...) of the precision that values have in memory."""
        if self.dtype == "float16":  # numpy's memory, so that files are read straight into it
            return torch.from_numpy(np.empty((rows, *self.row_shape), np.float16))
        return torch.empty((rows, *self.row_shape), dtype=IN_MEMORY[self.dtype])

    def read(self, rows: slice, view: int) -> Tensor:
        """Consecutive rows of a view."""
        out = self.empty(rows.stop - rows.start)
        self.fill(out, rows, view)
        return out

    def fill(self, out: Tensor, rows: slice, view: int) -> None:
        """Read consecutive rows of a view into `out`."""
        if self.scales is None:
            stored = out.view(torch.uint16) if self.dtype == "bfloat16" else out
            self.array.read(rows, view, stored.numpy())
            return
        integers = torch.from_numpy(self.array.read(rows, view))
        for chunk in self.array.chunks(rows):
            scale = torch.from_numpy(self.scales.read(self._chunks(chunk), view)[0])
            part = slice(chunk.start - rows.start, chunk.stop - rows.start)
            torch.mul(integers[part], _per_channel(scale, integers.ndim), out=out[part])


def _per_channel(scale: Tensor, ndim: int) -> Tensor:
    """(C,) so that it multiplies (rows, C, ...)."""
    return scale.view(1, -1, *[1] * (ndim - 2))


def pack_positives(embeddings: Tensor, labels: Tensor, most: int) -> Tensor:
    """Label-wise embeddings of the labels that a sample has, and of no others: the losses read no others.

    Those of a sample's labels in the order of the classes, and then zeros.

    Args:
        embeddings: (B, classes, d) floats.
        labels: (B, classes) of 0 and 1.
        most: the largest number of labels of any sample of the dataset.

    Returns:
        (B, most, d).
    """
    places, present = _places(labels, most)
    return embeddings.gather(1, places[..., None].expand(-1, -1, embeddings.shape[2])) * present[..., None]


def unpack_positives(packed: Tensor, labels: Tensor) -> Tensor:
    """(B, most, d) and (B, classes) of 0 and 1 to (B, classes, d), 0 for labels that a sample does not have."""
    places, present = _places(labels, packed.shape[1])
    whole = packed.new_zeros(*labels.shape, packed.shape[2])
    return whole.scatter_add(1, places[..., None].expand_as(packed), packed * present[..., None])


def _places(labels: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """(B, most) classes, those of the sample first, in their order; and whether each is one."""
    order = torch.argsort(labels, dim=1, descending=True, stable=True)[:, :most]
    return order, labels.gather(1, order) > 0
