"""Rows of stores, computed again and compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kd.data.storage import spans
from kd.embeddings.computing import read_rows
from kd.embeddings.encoding import EncodedArray
from kd.embeddings.store import ComputedSplit, open_columns

# Rounding, relative to each value; int8 has half a step of its scale besides.
ROUNDING = {"float32": 0.0, "float16": 2.0**-10, "bfloat16": 2.0**-7, "int8": 2.0**-9}
# Relative to the largest value: sums in another order, and on a GPU in TF32.
NOISE_CPU, NOISE_GPU = 1e-4, 5e-3


@dataclass
class _Tally:
    rows: int = 0
    off: int = 0
    first: int = -1
    largest: float = 0.0


def split_differences(directory: Path, computed: ComputedSplit, rows: int, noise: float) -> Iterator[str]:
    """Differences between a split of a store and what is computed now, more than `noise` x the largest value.

    `rows` of each view are computed again, at least, and at least one of every chunk.

    Raises:
        UserError: something cannot be read.
    """
    split, names, views = computed.split, list(computed.layouts), computed.views
    columns = open_columns(directory, split, names)
    short = [column for column in columns.values() if column.views < views or column.rows != len(split.ids)]
    for column in short:
        yield (f"{column.array.path}: {column.views} views of {column.rows} rows, expected {views} of {len(split.ids)}")
    if short:
        return
    tallies = {(name, view): _Tally() for name in names for view in range(views)}
    picked = sample_rows(len(split.ids), rows, min(column.chunk for column in columns.values()))
    for each in spans(len(picked), computed.batch_size):
        part = picked[each]
        for view in range(views):
            values = computed.compute(part, view)
            for name, column in columns.items():
                _compare(column, part, view, values[name].float().cpu(), noise, tallies[name, view])
    for (name, view), tally in tallies.items():
        if tally.off:
            yield (
                f"{columns[name].array.path}: view {view}: {tally.off} of {tally.rows} rows computed again differ, the"
                f" first is {tally.first}; largest difference {tally.largest:.3g}: these are not embeddings by its"
                " own teachers of its own views"
            )


def sample_rows(count: int, rows: int, chunk: int) -> np.ndarray:
    """Evenly spread row numbers, sorted, at least one of every chunk."""
    spread = np.linspace(0, count - 1, min(rows, count)).round().astype(np.int64)
    middles = np.minimum(np.arange(0, count, chunk) + chunk // 2, count - 1)
    return np.unique(np.concatenate([spread, middles]))


def _compare(
    column: EncodedArray, picked: np.ndarray, view: int, computed: Tensor, noise: float, tally: _Tally
) -> None:
    stored = read_rows(column, picked, view).float()
    tolerance = noise * computed.abs().amax() + ROUNDING[column.dtype] * computed.abs()
    if column.scales is not None:
        chunks = picked // column.chunk
        scales = np.concatenate([column.scales.read(slice(chunk, chunk + 1), view) for chunk in chunks])
        tolerance += 0.5 * torch.from_numpy(scales).view(*scales.shape, *[1] * (computed.ndim - 2))
    difference = (stored - computed).abs()
    off = (~(difference <= tolerance)).flatten(1).any(dim=1)
    tally.rows += len(picked)
    if off.any():
        tally.first = int(picked[int(off.nonzero()[0])]) if tally.first < 0 else tally.first
        tally.off += int(off.sum())
        tally.largest = max(tally.largest, difference.max().item())
