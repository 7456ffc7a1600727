"""Frozen teachers at work beside the training, without any cache: the exact reference, a new view in each epoch.

Loaded by name, see `kd.training.recipe`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor

from kd.data.loader import ColumnGroup, MemoryBudget, SubBatch
from kd.data.modalities.base import views_of
from kd.data.packed import Split
from kd.embeddings.computing import FrozenTeachers
from kd.models.joint import load_joint_teacher
from kd.models.network import freeze
from kd.models.outputs import Outputs, shapes_of
from kd.training.cached_embeddings import EmbeddingSamples
from kd.training.recipe import JointSpec, StudentSpec
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
    spec: JointSpec, upstream: Mapping[str, Path], fabric: Fabric
) -> Callable[[Split, MemoryBudget | None], LiveSamples]:
    """What makes samples of a split for a joint teacher, seen by live teachers; see `train_joint_teacher`."""
    assert spec.live is not None
    directories = [upstream[f"teacher:{teacher}"] for teacher in spec.teachers]
    teachers = FrozenTeachers(directories, (spec.level,), spec.targets[0], spec.live, fabric)

    def make(split: Split, memory: MemoryBudget | None) -> LiveSamples:
        views = views_of(split.info.samples, "shared", split.info.name, spec.seed, spec.recipe.augmentation)
        return LiveSamples(ViewedSamples(split, views, fabric, memory), teachers)

    return make


class LiveTargets:
    """Targets made from the very images that the student is given.

    Args:
        spec: of the student.
        upstream: directories of each live `teacher:TEACHER` and, where there is one, of the `joint_teacher`.
        names: what the method needs.
        fabric: owns the device.
    """

    groups: Sequence[ColumnGroup] = ()

    def __init__(self, spec: StudentSpec, upstream: Mapping[str, Path], names: Sequence[str], fabric: Fabric) -> None:
        assert spec.live is not None
        directories = [upstream[f"teacher:{teacher}"] for teacher in spec.live_teachers]
        tapped = names if spec.individual or spec.level is None else (spec.level,)
        self.teachers = FrozenTeachers(directories, tapped, spec.dataset, spec.live, fabric)
        self.names, self.fabric = names, fabric
        self.joint = None if spec.individual else freeze(load_joint_teacher(upstream["joint_teacher"]))
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
