"""Cached embeddings: what one frozen teacher sees in every view of one dataset.

Layout of a directory: `embeddings.zarr` with a group per split holding `ids` (N,) int64 and an array per level,
(V, N, D) for L1 and (V, N, C, h, w) for L2 to L4, float16. The train split has as many views as were asked
for; val and test have one, the picture itself.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import zarr
from torch import Tensor

from kd.data.packed import ImageSplit
from kd.data.storage import blocks, create_rows, open_group, read_array, row_size, shard_rows
from kd.jobs.errors import UserError
from kd.jobs.progress import Progress

STORE = "embeddings.zarr"
DTYPE = "float16"

Tap = Callable[[np.ndarray, np.ndarray, int], dict[str, Tensor]]  # (images, ids, view) -> level -> (B, ...)


def create_store(directory: Path) -> zarr.Group:
    """An empty store; what an interrupted attempt left is removed."""
    if (directory / STORE).exists():
        shutil.rmtree(directory / STORE)
    return zarr.create_group(directory / STORE, attributes={"format": 1, "dtype": DTYPE})


def write_split(
    root: zarr.Group,
    name: str,
    split: ImageSplit,
    shapes: dict[str, tuple[int, ...]],
    views: int,
    tap: Tap,
    batch_size: int,
) -> None:
    """Cache every view of a split.

    Args:
        root: the store.
        name: of the split.
        split: its images.
        shapes: of one sample's embedding, per level.
        views: number of views.
        tap: the teacher.
        batch_size: images in one forward pass.

    Raises:
        UserError: an embedding is not finite, or too large for float16.
    """
    group = root.create_group(name)
    rows = len(split.ids)
    create_rows(group, "ids", rows, (), "int64")[:] = split.ids
    # One number of rows per shard for all levels, so that each shard of each level is written once.
    shard = shard_rows(max(row_size(shape, DTYPE) for shape in shapes.values()))
    arrays = {
        level: create_rows(group, level, rows, shape, DTYPE, views=views, shard=shard)
        for level, shape in shapes.items()
    }
    progress = Progress(views * rows, "image")
    for view in range(views):
        for block in blocks(rows, shard):
            gathered: dict[str, list[np.ndarray]] = {level: [] for level in arrays}
            for start in range(block.start, block.stop, batch_size):
                batch = slice(start, min(start + batch_size, block.stop))
                for level, value in tap(split.images[batch], split.ids[batch], view).items():
                    gathered[level].append(_to_half(value, level))
                progress.step(batch.stop - batch.start)
            for level, array in arrays.items():
                array[view, block] = np.concatenate(gathered[level])


def _to_half(value: Tensor, level: str) -> np.ndarray:
    half = value.to(torch.float16)
    if not torch.isfinite(half).all():
        largest = value.abs().max().item()
        raise UserError(f"embeddings at {level}: largest value {largest:g} does not fit float16 (65504)")
    return half.cpu().numpy()


class EmbeddingReader:
    """Reads one store.

    Args:
        directory: of the artefact.
        levels: those needed.
    """

    def __init__(self, directory: Path, levels: tuple[str, ...]) -> None:
        self.directory, self.levels = directory, levels
        self._root = open_group(directory / STORE)

    def ids(self, split: str) -> np.ndarray:
        """(N,) sample ids of a split, in the order of its rows."""
        return read_array(self._root, f"{split}/ids")

    def shape(self, level: str) -> tuple[int, ...]:
        """Shape of one sample's embedding."""
        array = self._root[f"train/{level}"]
        assert isinstance(array, zarr.Array)
        return tuple(array.shape[2:])

    def view(self, split: str, view: int, ids: np.ndarray) -> dict[str, Tensor]:
        """All rows of one view, per level, as float16 tensors.

        Args:
            split: of the dataset.
            view: number of the view.
            ids: (N,) ids that the caller's images have; rows must belong to the same samples.

        Raises:
            UserError: the store is of other samples, or damaged.
        """
        if not np.array_equal(self.ids(split), ids):
            raise UserError(f"{self.directory}: {split} holds embeddings of other samples than the dataset")
        values = {level: read_array(self._root, f"{split}/{level}", view) for level in self.levels}
        return {level: torch.from_numpy(value) for level, value in values.items()}
