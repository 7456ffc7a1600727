"""Stores, read for a training: embeddings as samples, and targets.

Apart from images, since how embeddings are stored must not count in what reads none; `StoredTargets` are loaded by
name, see `kd.training.recipe`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor

from kd.data.loader import ColumnGroup, MemoryBudget, SubBatch
from kd.data.packed import Labelled
from kd.data.storage import open_group
from kd.embeddings.encoding import unpack_positives
from kd.embeddings.options import POSITIVES
from kd.embeddings.store import STORE, open_columns
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
        views: that repeat over the epochs, in step with `ViewedSamples`; None: all that are stored.
        fabric: owns the device.
        memory: where embeddings may stay; None: they are read once.
    """

    def __init__(
        self,
        split: Labelled,
        stores: Sequence[Path],
        names: Sequence[str],
        views: int | None,
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


class StoredTargets:
    """A teacher's outputs, computed once for each view.

    Args:
        store: directory of the targets of a joint teacher, or of the embeddings of an individual one.
        split: training split.
        names: arrays that the method needs.
        views: as of `CachedSamples`.
        fabric: owns the device.
        memory: where targets may stay.
    """

    def __init__(
        self,
        store: Path,
        split: Labelled,
        names: Sequence[str],
        views: int | None,
        fabric: Fabric,
        memory: MemoryBudget,
    ) -> None:
        packed = f"train/{POSITIVES}" in open_group(store / STORE)
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
