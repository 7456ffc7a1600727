"""Cached embeddings as training samples, in step with the views that students see."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from kd.data.packed import LabelSplit
from kd.embeddings.store import EmbeddingReader


class CachedSamples:
    """What each of several teachers saw in one split of one dataset.

    Args:
        split: its samples; rows are paired with embeddings by sample id.
        name: of the split.
        stores: directories of the embeddings, one per teacher.
        levels: those needed.
        views: views that repeat over the epochs, in step with `ImageSamples`.
        fabric: owns the device.
    """

    def __init__(
        self,
        split: LabelSplit,
        name: str,
        stores: Sequence[Path],
        levels: tuple[str, ...],
        views: int,
        fabric: Fabric,
    ) -> None:
        self.info, self.dataset, self.labels = split.info, split.info.name, split.labels
        self._readers = [EmbeddingReader(store, levels) for store in stores]
        self._ids, self._name, self._views, self._fabric = split.ids, name, views, fabric
        self._loaded: tuple[int, list[dict[str, Tensor]]] | None = None

    def shapes(self, level: str) -> list[tuple[int, ...]]:
        """Shape of one sample's embedding of each teacher."""
        return [reader.shape(level) for reader in self._readers]

    def inputs(self, rows: np.ndarray, epoch: int | None) -> list[dict[str, Tensor]]:
        """Per teacher: level -> (B, ...) float32, of the view that belongs to the epoch."""
        view = 0 if epoch is None else epoch % self._views
        if self._loaded is None or self._loaded[0] != view:
            self._loaded = None  # frees one view before the next is read
            self._loaded = view, [reader.view(self._name, view, self._ids) for reader in self._readers]
        index = torch.from_numpy(rows)
        return [
            {level: self._fabric.to_device(values[index]).float() for level, values in teacher.items()}
            for teacher in self._loaded[1]
        ]


def join_embeddings(parts: list[list[dict[str, Tensor]]]) -> list[dict[str, Tensor]]:
    """Put batches of several datasets behind one another, teacher by teacher and level by level."""
    return [
        {level: torch.cat([teacher[level] for teacher in teachers]) for level in teachers[0]}
        for teachers in zip(*parts, strict=True)
    ]
