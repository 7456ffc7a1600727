"""Stores of what frozen teachers make of every view of a dataset: their embeddings, or a joint teacher's targets.

A directory has `embeddings.zarr`, a store with a group for each split. `train` has as many views as were asked for;
`val` and `test` have one, the samples themselves; targets have `train` only. A group has those of these arrays that
somebody reads (V views, N samples):

- `ids`: (N,) int64, those of the dataset, in the same order.
- `L1`: (V, N, D), vectors; of a joint teacher its fused vector.
- `L2`, `L3`, `L4`: (V, N, C, h, w), maps; of a joint teacher the distilled ones, in the student's shapes.
- `logits`: (V, N, classes), scores by the dataset's own teacher, or by a joint one.
- `label_embeddings`: (V, N, classes, d), an embedding for each label, by networks with a `label_encoder`.
- `positive_embeddings`: (V, N, most, d), instead of these: the embeddings of the labels that the sample has, in the
  order of the classes, and then zeros; `most` is the attribute `most_labels` of the dataset.

The attribute `precision` of an array says how its values are stored: `float32` and `float16` as they are; `bfloat16` as
the uint16 of its bits; `int8` as integers that are to be multiplied by the scale of their chunk and channel (the axis
after that of samples), which are in `NAME_scale`, (V, chunks, C) float32. To read an array without this program:

```python
train = zarr.open_group("embeddings.zarr", mode="r")["train"]
values = train["L2"][0]  # a view
if train["L2"].attrs["precision"] == "bfloat16":
    values = (values.astype(np.uint32) << 16).view(np.float32)
if train["L2"].attrs["precision"] == "int8":
    scale = train["L2_scale"][0][np.arange(len(values)) // train["L2"].chunks[1]]  # (N, C)
    values = values * scale[:, :, None, None]
```
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch
import zarr
from torch import Tensor

from kd.common.errors import UserError
from kd.data.packed import Labelled
from kd.data.storage import create_group, open_group, open_rows, spans, write_column
from kd.embeddings.encoding import EncodedArray
from kd.embeddings.options import Layout
from kd.jobs.progress import Progress

STORE = "embeddings.zarr"

log = logging.getLogger("kd")

Rows = slice | np.ndarray
"""Consecutive rows of a split, or sorted numbers of rows."""


@dataclass(frozen=True)
class ComputedSplit:
    """The arrays of one split of a store, and how they are computed.

    Attributes:
        split: of the dataset.
        layouts: by the names that arrays have in the store.
        views: how many of each sample are stored.
        batch_size: rows that are computed together, at most.
        compute: (rows, number of the view) -> name -> (rows, ...) floats on any device.
    """

    split: Labelled
    layouts: dict[str, Layout]
    views: int
    batch_size: int
    compute: Callable[[Rows, int], dict[str, Tensor]]


def write_store(directory: Path, splits: Iterable[ComputedSplit], kin: Sequence[Path] = ()) -> None:
    """Fill every view of every split of a store; chunks that an interrupted attempt stored are kept.

    What is computed together depends on the rows alone, never on where an attempt began, so that a store
    that was continued equals one made at once.

    Args:
        directory: of the store, new or as an interrupted attempt left it.
        splits: what it is to hold.
        kin: directories of stores that have other arrays or views of the very same; what they have is taken.

    Raises:
        UserError: a value is not finite, or too large for its precision.
    """
    root = create_group(directory / STORE)
    sound = [each for each in kin if _can_be_read(each)]
    for each in splits:
        _write_split(root, each, sound)


def _can_be_read(directory: Path) -> bool:
    try:
        open_group(directory / STORE)
    except UserError as error:  # it is not what its manifest says
        log.warning("nothing is taken from %s: %s", directory, error)
        return False
    return True


def _write_split(root: zarr.Group, computed: ComputedSplit, kin: Sequence[Path]) -> None:
    split, views = computed.split, computed.views
    group = root.require_group(split.name)
    rows = len(split.ids)
    write_column(group, "ids", split.ids)
    arrays = [
        EncodedArray.create(group, name, layout.dtype, views, rows, layout.shape)
        for name, layout in computed.layouts.items()
    ]
    for directory, array in product(kin, arrays):
        array.take_chunks(directory / STORE / split.name / array.name)
    # Whole chunks, and whole batches, so that what is computed together is the same whatever the other arrays' chunks.
    largest = max(array.chunk for array in arrays)
    block = -(-computed.batch_size // largest) * largest
    progress = Progress(views * rows, "sample")
    with ThreadPoolExecutor(max_workers=1) as writer:  # a block is written while the next one is computed
        written: Future[None] | None = None
        for view, part in product(range(views), spans(rows, block)):
            if not all(array.has(part, view) for array in arrays):
                values = _compute_block(arrays, part, view, computed)
                if written is not None:
                    written.result()
                written = writer.submit(_write_block, arrays, part, view, values)
            progress.step(part.stop - part.start)
        if written is not None:
            written.result()


def _compute_block(
    arrays: Sequence[EncodedArray], part: slice, view: int, computed: ComputedSplit
) -> dict[str, Tensor]:
    values: dict[str, list[Tensor]] = {array.name: [] for array in arrays}
    for rows in spans(part.stop, computed.batch_size, part.start):
        batch = computed.compute(rows, view)
        for array in arrays:
            values[array.name].append(array.prepare(batch[array.name]))
    return {name: torch.cat(batches) for name, batches in values.items()}


def _write_block(arrays: Sequence[EncodedArray], part: slice, view: int, values: dict[str, Tensor]) -> None:
    for array in arrays:
        array.write(part, values[array.name], view)


def open_columns(directory: Path, split: Labelled, names: Sequence[str]) -> dict[str, EncodedArray]:
    """Arrays of one split of a store, for reading.

    Args:
        directory: of the store.
        split: of the dataset, as the caller has it; rows must belong to the same samples.
        names: of the arrays.

    Raises:
        UserError: the store is of other samples, holds no such array, or cannot be read.
    """
    root = open_group(directory / STORE)
    stored = open_rows(root, f"{split.name}/ids").read()
    if not np.array_equal(stored, split.ids):
        raise UserError(
            f"{directory}: ids of split {split.name} are those of {len(stored)} other samples than the dataset's"
            f" {len(split.ids)}"
        )
    group = root[split.name]
    assert isinstance(group, zarr.Group)
    return {name: EncodedArray.open(group, name) for name in names}
