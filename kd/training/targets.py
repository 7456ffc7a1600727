"""Where a student's targets come from: stored by a joint teacher, or made from an individual one's embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from lightning_fabric import Fabric
from torch import Tensor

from kd.data.feed import Memory, Piece, Table
from kd.data.packed import Split
from kd.models.network import freeze
from kd.models.targets import IndividualTargets, Targets
from kd.models.weights import load_network
from kd.training.samples import CachedSamples


class TargetSource(Protocol):
    """Gives the targets of any batch of the training split, of the view that the student sees."""

    @property
    def tables(self) -> Sequence[Table]:
        """What is read from disk; none, where teachers look at the pictures themselves."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of one sample's maps by level and, if there is one, of its `vector`."""

    def targets(self, piece: Piece, images: Tensor) -> Targets:
        """Targets of a batch; `piece` is what was read, `images` the view of it as the student sees it."""


def named_targets(targets: Targets, names: Sequence[str]) -> dict[str, Tensor]:
    """Targets as arrays of a store."""
    given = {"logits": targets.logits, **targets.maps}
    if targets.vector is not None:
        given["vector"] = targets.vector
    return {name: given[name] for name in names}


class StoredTargets:
    """A joint teacher's targets, computed once for each view.

    Args:
        store: directory of the targets.
        split: training split.
        names: arrays that the distiller needs.
        views: stored views that repeat over the epochs.
        fabric: owns the device.
        memory: where targets may stay.
    """

    def __init__(
        self, store: Path, split: Split, names: Sequence[str], views: int, fabric: Fabric, memory: Memory
    ) -> None:
        self._samples = CachedSamples(split, [store], names, views, fabric, memory)
        self.tables, self._names = self._samples.tables, names

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the arrays."""
        return {name: self._samples.shapes(name)[0] for name in self._names if name != "logits"}

    def targets(self, piece: Piece, images: Tensor) -> Targets:  # noqa: ARG002
        """As they were stored."""
        (values,) = self._samples.inputs(piece, None)
        return Targets(values.pop("logits"), values.pop("vector", None), values)


class CachedIndividual:
    """Targets made by a dataset's individual teacher from its own stored embeddings.

    Args:
        teacher: directory of the teacher, whose classifier turns its vector into logits.
        store: directory of its embeddings of the dataset.
        split: training split.
        levels: that are read.
        views: stored views that repeat over the epochs.
        fabric: owns the device.
        memory: where embeddings may stay.
    """

    def __init__(
        self,
        teacher: Path,
        store: Path,
        split: Split,
        levels: Sequence[str],
        views: int,
        fabric: Fabric,
        memory: Memory,
    ) -> None:
        self._samples = CachedSamples(split, [store], levels, views, fabric, memory)
        self.tables, self._levels = self._samples.tables, levels
        self._teacher = freeze(IndividualTargets(load_network(teacher).heads))
        fabric.to_device(self._teacher)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the embeddings."""
        return {"vector" if level == "L1" else level: self._samples.shapes(level)[0] for level in self._levels}

    def targets(self, piece: Piece, images: Tensor) -> Targets:  # noqa: ARG002
        """The teacher's logits, vector and maps."""
        return self._teacher.make_targets(self._samples.inputs(piece, None), self._samples.dataset)
