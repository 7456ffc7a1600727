"""What is trained and measured on: images, seen through views. `kd.training.embedded` has embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from lightning_fabric import Fabric
from torch import Tensor

from kd.data.feed import Fed, Memory, Piece, RawColumn, Table
from kd.data.options import Task
from kd.data.packed import DatasetInfo, Split
from kd.data.views import Views, to_float
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


class OfSplit:
    """What all samples of a split know of it."""

    def __init__(self, split: Split, tables: Sequence[Table], fabric: Fabric) -> None:
        self.split, self.tables, self.fabric = split, tables, fabric
        self.info: DatasetInfo = split.info
        self.dataset, self.labels = split.info.name, split.labels
        self.task, self.classes = split.info.task, split.info.classes


class ImageSamples(OfSplit):
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
