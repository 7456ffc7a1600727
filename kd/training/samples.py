"""What is trained and measured on: samples, seen through views. `kd.training.cached_embeddings` has embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from kd.data.loader import ColumnGroup, MemoryBudget, RawColumn, SubBatch
from kd.data.modalities.base import View, plain
from kd.data.order import view_of_epoch
from kd.data.packed import Labelled, Split
from kd.jobs.environment import memory_budget
from kd.models.devices import send


def data_memory(fabric: Fabric) -> MemoryBudget:
    """Room for data that stay between epochs, as the config gives it to every job."""
    host, device = memory_budget()
    return MemoryBudget(fabric.to_device, host, device if fabric.device.type == "cuda" else 0)


class Samples:
    """The samples of one split of one dataset, ready for a module. A subclass says what its inputs are.

    Attributes:
        groups: arrays that are read from disk.
        info: of the dataset.
        labels: (N,) int64 class ids; or, multi-label, (N, classes) uint8 of 0 and 1.
    """

    def __init__(self, split: Labelled, groups: Sequence[ColumnGroup], fabric: Fabric) -> None:
        self.split, self.groups, self.fabric = split, groups, fabric
        self.info, self.labels = split.info, split.labels

    def inputs(self, sub_batch: SubBatch, epoch: int | None) -> Any:
        """Module input for what was read, on the device; `epoch` None: of the samples themselves, without a view."""
        raise NotImplementedError

    @staticmethod
    def join(inputs: list[Any]) -> Any:
        """The inputs of several datasets as one batch."""
        return torch.cat(inputs)


class ViewedSamples(Samples):
    """Samples, seen through views.

    Args:
        split: whose.
        views: of the dataset.
        fabric: owns the device.
        memory: where samples may stay; None: they are read once.
        count: views that repeat over the epochs; None: a new one in each epoch.
        fit: brings what is seen to one shape, so that datasets of different shapes fit into one batch; None: as it is.
    """

    def __init__(
        self,
        split: Split,
        views: View,
        fabric: Fabric,
        memory: MemoryBudget | None,
        count: int | None = None,
        fit: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__(split, [ColumnGroup({"images": RawColumn(split.images)}, memory)], fabric)
        self.views, self.count, self.fit = views, count, fit

    def inputs(self, sub_batch: SubBatch, epoch: int | None) -> Tensor:
        """(B, ...) float32 in 0..1, as backbones take it."""
        pixels = send(self.fabric, sub_batch.values[0]["images"])
        if epoch is None:
            seen = plain(self.info.samples, pixels)
        else:
            seen = self.views(pixels, self.split.ids[sub_batch.rows], view_of_epoch(epoch, self.count))
        return seen if self.fit is None else self.fit(seen)
