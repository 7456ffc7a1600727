"""Frozen teachers at work beside the training, without any cache: the exact reference, a new view in each epoch.

Loaded by name, so that its code counts only in jobs whose views are live.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor

from kd.data.feed import Memory, Piece, Table
from kd.data.options import Augmentation
from kd.data.packed import Split
from kd.data.views import Views
from kd.embeddings.encoding import reduce_map
from kd.embeddings.options import CacheOptions
from kd.models.network import freeze, tap_shapes
from kd.models.spec import Level
from kd.models.targets import IndividualTargets, TargetMaker, Targets
from kd.models.weights import load_network
from kd.training.fusion import MakeSamples, load_joint_teacher
from kd.training.samples import ImageSamples


class LiveTeachers:
    """Several individual teachers, tapped as their stores would be.

    Args:
        directories: of the teachers.
        levels: where they are tapped.
        options: resolution of maps; precision is not reduced.
        fabric: owns the device.
    """

    def __init__(
        self, directories: Sequence[Path], levels: Sequence[Level], options: CacheOptions, fabric: Fabric
    ) -> None:
        self.levels, self.options = levels, options
        self.networks = [freeze(load_network(directory)) for directory in directories]
        self._shapes = [tap_shapes(network, levels) for network in self.networks]
        for network in self.networks:
            fabric.to_device(network)

    def shapes(self, level: Level) -> list[tuple[int, ...]]:
        """Shape of one sample's embedding by each teacher."""
        return [self.options.shape(level, shapes[level]) for shapes in self._shapes]

    @torch.no_grad()
    def embed(self, images: Tensor) -> list[dict[str, Tensor]]:
        """Per teacher: level -> (B, ...) float32 of (B, 3, H, W) pictures in 0..1."""
        seen = [network(images, self.levels) for network in self.networks]
        return [
            {level: reduce_map(features.at(level), level, self.options).float() for level in self.levels}
            for features in seen
        ]


class LiveSamples(ImageSamples):
    """Like `CachedSamples`, but what the teachers see now."""

    def __init__(
        self, split: Split, views: Views, teachers: LiveTeachers, fabric: Fabric, memory: Memory | None
    ) -> None:
        super().__init__(split, views, fabric, memory)
        self.teachers = teachers

    def shapes(self, name: Level) -> list[tuple[int, ...]]:
        """Shape of one sample's embedding by each teacher."""
        return self.teachers.shapes(name)

    def inputs(self, piece: Piece, epoch: int | None) -> list[dict[str, Tensor]]:  # type: ignore[override]
        """Per teacher: level -> (B, ...) float32."""
        return self.teachers.embed(super().inputs(piece, epoch))


def live_embeddings(
    teachers: Sequence[Path], level: Level, options: CacheOptions, augmentation: Augmentation | None, seed: int
) -> MakeSamples:
    """Samples for a joint teacher, seen by live teachers; these are loaded once."""
    loaded: list[LiveTeachers] = []

    def make(number: int, split: Split, fabric: Fabric, memory: Memory | None) -> LiveSamples:  # noqa: ARG001
        if not loaded:
            loaded.append(LiveTeachers(teachers, (level,), options, fabric))
        return LiveSamples(split, Views(split.info, seed, augmentation), loaded[0], fabric, memory)

    return make


class LiveTargets:
    """Targets made from the very pictures that the student is given.

    Args:
        teachers: behind the targets.
        maker: directory of the joint teacher, or of the one individual teacher.
        individual: which of the two.
        dataset: whose classes are meant.
        fabric: owns the device.
    """

    def __init__(self, teachers: LiveTeachers, maker: Path, dataset: str, fabric: Fabric, *, individual: bool) -> None:
        self.tables: list[Table] = []
        self.teachers, self.dataset, self.fabric = teachers, dataset, fabric
        self.maker: TargetMaker
        joint = IndividualTargets(load_network(maker).heads) if individual else load_joint_teacher(maker)
        self.maker = freeze(joint)
        fabric.to_device(joint)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """As one picture shows them."""
        size = self.teachers.networks[0].config.input_size
        targets = self._make(self.fabric.to_device(torch.zeros(1, 3, *size)))
        shapes = {level: tuple(value.shape[1:]) for level, value in targets.maps.items()}
        return shapes if targets.vector is None else shapes | {"vector": tuple(targets.vector.shape[1:])}

    def targets(self, piece: Piece, images: Tensor) -> Targets:  # noqa: ARG002
        """What the teachers make of the pictures."""
        return self._make(images)

    @torch.no_grad()
    def _make(self, images: Tensor) -> Targets:
        return self.maker.make_targets(self.teachers.embed(images), self.dataset)
