"""Targets from a store, of an individual or of a joint teacher; loaded by name, see `kd.training.targets`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor

from kd.data.loader import MemoryBudget, SubBatch
from kd.data.packed import Split
from kd.embeddings.options import POSITIVES
from kd.embeddings.positives import unpack_positives
from kd.embeddings.store import holds
from kd.models.devices import send
from kd.training.cached_embeddings import CachedSamples


class StoredTargets:
    """A teacher's outputs, computed once for each view.

    Args:
        store: directory of the targets of a joint teacher, or of the embeddings of an individual one.
        split: training split.
        names: arrays that the method needs.
        views: stored views that repeat over the epochs.
        fabric: owns the device.
        memory: where targets may stay.
    """

    def __init__(
        self, store: Path, split: Split, names: Sequence[str], views: int, fabric: Fabric, memory: MemoryBudget
    ) -> None:
        packed = holds(store, POSITIVES)
        stored = [POSITIVES if name == "label_embeddings" and packed else name for name in names]
        self._samples = CachedSamples(split, [store], stored, views, fabric, memory)
        self.groups, self._stored, self._labels, self._fabric = self._samples.groups, stored, split.labels, fabric

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of one sample's targets, label embeddings of positives unpacked."""
        shapes = {name: self._samples.shapes(name)[0] for name in self._stored}
        if POSITIVES in shapes:
            shapes["label_embeddings"] = (self._labels.shape[1], shapes.pop(POSITIVES)[1])
        return shapes

    def targets(self, sub_batch: SubBatch, images: Tensor) -> dict[str, Tensor]:  # noqa: ARG002
        """The targets as they were stored."""
        (values,) = self._samples.inputs(sub_batch, None)
        if POSITIVES in values:
            labels = send(self._fabric, torch.from_numpy(self._labels[sub_batch.rows]))
            values["label_embeddings"] = unpack_positives(values.pop(POSITIVES), labels)
        return values
