"""What is trained and measured on: pictures through views, embeddings from stores or from live teachers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from kd.data.feed import Fed, Memory, Piece, RawColumn, Table
from kd.data.options import Task
from kd.data.packed import DatasetInfo, Split
from kd.data.views import Views, to_float
from kd.embeddings.store import StoreReader
from kd.jobs.environment import memory_budget
from kd.models.network import resize_images
from kd.training.devices import send


def data_memory(fabric: Fabric) -> Memory:
    """Room for data that stay between epochs, as the config gives it to every job."""
    host, device = memory_budget()
    return Memory(fabric.to_device, host, device if fabric.device.type == "cuda" else 0)


class Samples(Fed, Protocol):
    """The samples of one split of one dataset, ready for a module."""

    @property
    def dataset(self) -> str:
        """Its name."""

    @property
    def labels(self) -> np.ndarray:
        """(N,) int64 class ids; or, multi-label, (N, classes) uint8 of 0 and 1."""

    @property
    def task(self) -> Task:
        """Single-label or multi-label."""

    @property
    def classes(self) -> Sequence[str]:
        """Names."""

    def inputs(self, piece: Piece, epoch: int | None) -> Any:
        """Module input for what was read, on the device; `epoch` None: the pictures themselves."""


class _OfSplit:
    def __init__(self, split: Split, tables: Sequence[Table], fabric: Fabric) -> None:
        self.split, self.tables, self.fabric = split, tables, fabric
        self.info: DatasetInfo = split.info
        self.dataset, self.labels = split.info.name, split.labels
        self.task, self.classes = split.info.task, split.info.classes


class ImageSamples(_OfSplit):
    """Pictures, seen through views.

    Args:
        split: whose.
        views: of the dataset.
        fabric: owns the device.
        memory: where pictures may stay; None: they are read once.
        count: views that repeat over the epochs; None: a new one in each epoch.
        size: height and width to resize to, so that datasets of different sizes fit into one batch.
    """

    def __init__(
        self,
        split: Split,
        views: Views,
        fabric: Fabric,
        memory: Memory | None,
        count: int | None = None,
        size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(split, [Table({"images": RawColumn(split.images)}, memory)], fabric)
        self.views, self.count, self.size = views, count, size

    def inputs(self, piece: Piece, epoch: int | None) -> Tensor:
        """(B, 3, H, W) float32 in 0..1."""
        pixels = send(self.fabric, piece.values[0]["images"])
        if epoch is None:
            seen = to_float(pixels)
        else:
            view = epoch if self.count is None else epoch % self.count
            seen = self.views(pixels, self.split.ids[piece.rows], view)
        return seen if self.size is None else resize_images(seen, self.size)


class CachedSamples(_OfSplit):
    """What each of several teachers saw of the views of one split.

    Args:
        split: its samples; rows are paired with embeddings by sample id.
        stores: directories of the embeddings, one per teacher.
        names: arrays that are needed.
        views: that repeat over the epochs, in step with `ImageSamples`.
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
        memory: Memory | None,
    ) -> None:
        columns = [StoreReader(store, names).columns(split.name, split.ids) for store in stores]
        super().__init__(
            split, [Table(dict(each), memory, views if split.name == "train" else 1) for each in columns], fabric
        )
        self._columns = columns

    def shapes(self, name: str) -> list[tuple[int, ...]]:
        """Shape of one sample in each store."""
        return [each[name].row_shape for each in self._columns]

    def inputs(self, piece: Piece, epoch: int | None) -> list[dict[str, Tensor]]:  # noqa: ARG002 - tables follow it
        """Per store: name -> (B, ...) float32."""
        return [{name: send(self.fabric, value).float() for name, value in values.items()} for values in piece.values]


def join_embeddings(parts: list[list[dict[str, Tensor]]]) -> list[dict[str, Tensor]]:
    """Put batches of several datasets behind one another, teacher by teacher and level by level."""
    return [
        {level: torch.cat([teacher[level] for teacher in teachers]) for level in teachers[0]}
        for teachers in zip(*parts, strict=True)
    ]
