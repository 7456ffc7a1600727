"""A student in training: its network, its taps, and projectors to the shapes of its targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from torch import Tensor, nn

from kd.models.network import Network, resample, tap_shapes
from kd.models.spec import Level


@dataclass
class AlignedOutputs:
    """What a student says of a batch, in the shapes of its targets; see `kd.distillers.base.StudentOutputs`."""

    logits: Tensor
    vector: Tensor | None = None
    maps: dict[str, Tensor] = field(default_factory=dict)


class AlignedStudent(nn.Module):
    """Student network plus what only training needs.

    Where a map of the student differs from its target in channels, a trainable 1x1 conv follows it; where it
    differs in size, it is resampled. A vector of another width gets a trainable linear layer. The projectors
    are thrown away after training.

    Args:
        network: the student.
        dataset: whose head is trained.
        map_shapes: (C, h, w) of the target maps, by level; empty: none are compared.
        vector_width: D of the target vector, or None: it is not compared.
    """

    def __init__(
        self,
        network: Network,
        dataset: str,
        map_shapes: dict[str, tuple[int, ...]],
        vector_width: int | None = None,
    ) -> None:
        super().__init__()
        self.network, self.dataset = network, dataset
        self.levels = cast("Sequence[Level]", tuple(map_shapes))
        self.grids = {level: (shape[1], shape[2]) for level, shape in map_shapes.items()}
        own = tap_shapes(network, ("L1", *self.levels))
        self.projectors = nn.ModuleDict()
        for level, (channels, *_) in map_shapes.items():
            same = own[level][0] == channels
            self.projectors[level] = nn.Identity() if same else nn.Conv2d(own[level][0], channels, kernel_size=1)
        if vector_width is not None:
            same = own["L1"][0] == vector_width
            self.projectors["L1"] = nn.Identity() if same else nn.Linear(own["L1"][0], vector_width)

    def forward(self, images: Tensor) -> AlignedOutputs:
        """(B, 3, H, W) RGB in 0..1 to outputs in the shapes of the targets."""
        features = self.network(images, self.levels)
        maps: dict[str, Tensor] = {
            level: resample(self.projectors[level](features.maps[level]), self.grids[level]) for level in self.levels
        }
        vector = self.projectors["L1"](features.vector) if "L1" in self.projectors else None
        return AlignedOutputs(features.logits[self.dataset], vector, maps)
