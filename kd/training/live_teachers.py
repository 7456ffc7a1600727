"""Frozen teachers at work beside the training, without any cache: the exact reference, a new view in each epoch.

Loaded by name, see `kd.training.targets`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor

from kd.data.loader import ColumnGroup, MemoryBudget, SubBatch
from kd.data.modalities.base import views_of
from kd.data.options import Augmentation
from kd.data.packed import Split
from kd.embeddings.options import CacheOptions
from kd.embeddings.teachers import FrozenTeachers
from kd.models.joint import load_joint_teacher
from kd.models.network import freeze
from kd.models.outputs import Outputs, shapes_of
from kd.models.spec import Level
from kd.training.cached_embeddings import EmbeddingSamples
from kd.training.fusion import MakeSamples
from kd.training.samples import ViewedSamples


class LiveSamples(EmbeddingSamples):
    """Like `CachedSamples`, but what the teachers see now.

    Args:
        images: that the teachers look at.
        teachers: at work.
    """

    def __init__(self, images: ViewedSamples, teachers: FrozenTeachers) -> None:
        super().__init__(images.split, images.groups, images.fabric)
        self.images, self.teachers = images, teachers

    def shapes(self, name: str) -> list[tuple[int, ...]]:
        """As the teachers' maps are reduced for a store."""
        return self.teachers.shapes(name)

    def inputs(self, sub_batch: SubBatch, epoch: int | None) -> list[dict[str, Tensor]]:
        """What the teachers make of the view of this epoch."""
        return self.teachers.embed(self.images.inputs(sub_batch, epoch))


def live_embeddings(
    teachers: Sequence[Path], level: Level, options: CacheOptions, augmentation: Augmentation | None, seed: int
) -> MakeSamples:
    """Samples for a joint teacher, seen by live teachers; these are loaded once."""
    loaded: list[FrozenTeachers] = []

    def make(number: int, split: Split, fabric: Fabric, memory: MemoryBudget | None) -> LiveSamples:  # noqa: ARG001
        if not loaded:
            loaded.append(FrozenTeachers(teachers, (level,), split.info.name, options, fabric))
        views = views_of(split.info.samples, "shared", split.info.name, seed, augmentation)
        return LiveSamples(ViewedSamples(split, views, fabric, memory), loaded[0])

    return make


class LiveTargets:
    """Targets made from the very images that the student is given.

    Args:
        teachers: directories of the individual teachers behind the targets.
        tapped: what of them, as `FrozenTeachers` takes it.
        dataset: of the student.
        options: resolution of maps.
        names: what the method needs.
        joint: directory of the joint teacher; None: the one teacher itself makes the targets.
        fabric: owns the device.
    """

    groups: Sequence[ColumnGroup] = ()

    def __init__(
        self,
        teachers: Sequence[Path],
        tapped: Sequence[str],
        dataset: str,
        options: CacheOptions,
        names: Sequence[str],
        joint: Path | None,
        fabric: Fabric,
    ) -> None:
        self.teachers = FrozenTeachers(teachers, tapped, dataset, options, fabric)
        self.names, self.fabric = names, fabric
        self.joint = None if joint is None else freeze(load_joint_teacher(joint))
        if self.joint is not None:
            fabric.to_device(self.joint)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes found by passing one image through the teachers."""
        return shapes_of(self._make(self.fabric.to_device(self.teachers.networks[0].example())))

    def targets(self, sub_batch: SubBatch, images: Tensor) -> dict[str, Tensor]:  # noqa: ARG002
        """The targets that the teachers compute for the images."""
        return self._make(images)

    @torch.no_grad()
    def _make(self, images: Tensor) -> dict[str, Tensor]:
        embeddings = self.teachers.embed(images)
        if self.joint is None:
            return embeddings[0]
        outputs: Outputs = self.joint(embeddings)
        return outputs.arrays(self.teachers.dataset, self.names)
