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
from kd.models.outputs import Outputs
from kd.models.spec import LEVELS, Level
from kd.models.weights import load_network
from kd.training.fusion import MakeSamples, load_joint_teacher
from kd.training.samples import ImageSamples


class LiveTeachers:
    """Several individual teachers, tapped as their stores would be.

    Args:
        directories: of the teachers.
        names: what of them: levels, and of a dataset's own teacher `logits` and `label_embeddings`.
        dataset: whose classes these are of.
        options: resolution of maps; precision is not reduced.
        fabric: owns the device.
    """

    def __init__(
        self, directories: Sequence[Path], names: Sequence[str], dataset: str, options: CacheOptions, fabric: Fabric
    ) -> None:
        self.names, self.dataset, self.options = names, dataset, options
        self.levels = [level for level in LEVELS if level in names]
        self.networks = [freeze(load_network(directory)) for directory in directories]
        self._shapes = [tap_shapes(network, names, dataset) for network in self.networks]
        for network in self.networks:
            fabric.to_device(network)

    def shapes(self, name: str) -> list[tuple[int, ...]]:
        """Shape of one sample's embedding by each teacher."""
        return [self.options.shape(name, shapes[name]) for shapes in self._shapes]

    @torch.no_grad()
    def embed(self, images: Tensor) -> list[dict[str, Tensor]]:
        """Per teacher: name -> (B, ...) float32 of (B, 3, H, W) pictures in 0..1."""
        seen = [network(images, self.levels) for network in self.networks]
        return [
            {name: reduce_map(features.named(name, self.dataset), name, self.options).float() for name in self.names}
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
            loaded.append(LiveTeachers(teachers, (level,), split.info.name, options, fabric))
        return LiveSamples(split, Views("shared", split.info, seed, augmentation), loaded[0], fabric, memory)

    return make


class LiveTargets:
    """Targets made from the very pictures that the student is given.

    Args:
        teachers: behind the targets.
        names: what the method needs.
        joint: directory of the joint teacher; None: the one teacher itself makes the targets.
        fabric: owns the device.
    """

    def __init__(self, teachers: LiveTeachers, names: Sequence[str], joint: Path | None, fabric: Fabric) -> None:
        self.tables: list[Table] = []
        self.teachers, self.names, self.fabric = teachers, names, fabric
        self.joint = None if joint is None else freeze(load_joint_teacher(joint))
        if self.joint is not None:
            fabric.to_device(self.joint)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """As one picture shows them."""
        size = self.teachers.networks[0].config.input_size
        targets = self._make(self.fabric.to_device(torch.zeros(1, 3, *size)))
        return {name: tuple(value.shape[1:]) for name, value in targets.named(self.names).items()}

    def targets(self, piece: Piece, images: Tensor) -> Outputs:  # noqa: ARG002
        """What the teachers make of the pictures."""
        return self._make(images)

    @torch.no_grad()
    def _make(self, images: Tensor) -> Outputs:
        embeddings = self.teachers.embed(images)
        if self.joint is None:
            return Outputs.of(embeddings[0])
        return Outputs.of(self.joint.make_targets(embeddings, self.teachers.dataset).named(self.names))
