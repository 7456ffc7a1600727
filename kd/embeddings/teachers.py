"""Frozen individual teachers, tapped as their stores are: what they make of a batch, whether it is stored or not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor

from kd.embeddings.encoding import reduce_map
from kd.embeddings.options import CacheOptions
from kd.models.network import freeze, tap_shapes
from kd.models.spec import LEVELS
from kd.models.weights import load_network


class FrozenTeachers:
    """Several individual teachers.

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
    def embed(self, samples: Tensor) -> list[dict[str, Tensor]]:
        """Per teacher: name -> (B, ...) float32, of (B, ...) samples as backbones take them."""
        seen = [network(samples, self.levels) for network in self.networks]
        return [
            {
                name: reduce_map(value, name, self.options).float()
                for name, value in outputs.arrays(self.dataset, self.names).items()
            }
            for outputs in seen
        ]
