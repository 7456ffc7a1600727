"""Embeddings as samples; apart from images, since how embeddings are stored must not count in what reads none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor

from kd.data.loader import ColumnGroup, MemoryBudget, SubBatch
from kd.data.packed import Split
from kd.embeddings.store import open_columns
from kd.models.devices import send
from kd.training.samples import Samples


class EmbeddingSamples(Samples):
    """Samples whose inputs are embeddings by several teachers: per teacher, name -> (B, ...) float32."""

    def shapes(self, name: str) -> list[tuple[int, ...]]:
        """Shape of one sample's embedding by each teacher."""
        raise NotImplementedError

    @staticmethod
    def join(inputs: list[list[dict[str, Tensor]]]) -> list[dict[str, Tensor]]:
        """Teacher by teacher and level by level."""
        return [
            {level: torch.cat([teacher[level] for teacher in teachers]) for level in teachers[0]}
            for teachers in zip(*inputs, strict=True)
        ]


class CachedSamples(EmbeddingSamples):
    """Cached embeddings by several teachers of the views of one split.

    Args:
        split: its samples; rows are paired with embeddings by sample id.
        stores: directories of the embeddings, one per teacher.
        names: arrays that are needed.
        views: that repeat over the epochs, in step with `ViewedSamples`.
        fabric: owns the device.
        memory: where embeddings may stay; None: they are read once.
    """

    def __init__(
        self,
        split: Split,
        stores: Sequence[Path],
        names: Sequence[str],
        views: int,
        fabric: Fabric,
        memory: MemoryBudget | None,
    ) -> None:
        columns = [open_columns(store, split, names) for store in stores]
        super().__init__(
            split, [ColumnGroup(dict(each), memory, views if split.name == "train" else 1) for each in columns], fabric
        )
        self._columns = columns

    def shapes(self, name: str) -> list[tuple[int, ...]]:
        """As they are stored."""
        return [each[name].row_shape for each in self._columns]

    def inputs(self, sub_batch: SubBatch, epoch: int | None) -> list[dict[str, Tensor]]:  # noqa: ARG002 - groups follow it
        """As they were read."""
        return [
            {name: send(self.fabric, value).float() for name, value in values.items()} for values in sub_batch.values
        ]
