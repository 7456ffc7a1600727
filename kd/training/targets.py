"""Where a student's targets come from: stored, by an individual or by a joint teacher, or from nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from lightning_fabric import Fabric
from torch import Tensor

from kd.data.feed import Memory, Piece, Table
from kd.data.packed import Split
from kd.embeddings.options import POSITIVES
from kd.embeddings.positives import unpack_positives
from kd.embeddings.store import StoreReader
from kd.models.outputs import Outputs
from kd.training.devices import send
from kd.training.samples import CachedSamples


class TargetSource(Protocol):
    """Gives the targets of any batch of the training split, of the view that the student sees."""

    @property
    def tables(self) -> Sequence[Table]:
        """What is read from disk; none, where teachers look at the pictures themselves."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of one sample's targets by name."""

    def targets(self, piece: Piece, images: Tensor) -> Outputs:
        """Targets of a batch; `piece` is what was read, `images` the view of it as the student sees it."""


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
        self, store: Path, split: Split, names: Sequence[str], views: int, fabric: Fabric, memory: Memory
    ) -> None:
        reader = StoreReader(store, ())
        stored = [POSITIVES if name == "label_embeddings" and reader.holds(POSITIVES) else name for name in names]
        self._samples = CachedSamples(split, [store], stored, views, fabric, memory)
        self.tables, self._stored, self._labels, self._fabric = self._samples.tables, stored, split.labels, fabric

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the arrays, whole."""
        shapes = {name: self._samples.shapes(name)[0] for name in self._stored}
        if POSITIVES in shapes:
            shapes["label_embeddings"] = (self._labels.shape[1], shapes.pop(POSITIVES)[1])
        return shapes

    def targets(self, piece: Piece, images: Tensor) -> Outputs:  # noqa: ARG002
        """As they were stored."""
        (values,) = self._samples.inputs(piece, None)
        if POSITIVES in values:
            labels = send(self._fabric, torch.from_numpy(self._labels[piece.rows]))
            values["label_embeddings"] = unpack_positives(values.pop(POSITIVES), labels)
        return Outputs.of(values)


class NoTargets:
    """For a method that learns from labels alone."""

    tables: Sequence[Table] = ()

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """None."""
        return {}

    def targets(self, piece: Piece, images: Tensor) -> Outputs:  # noqa: ARG002
        """Nothing."""
        return Outputs()
