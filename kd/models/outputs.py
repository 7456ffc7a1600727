"""What networks say of a batch, and what of it losses compare."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from kd.common.errors import UserError

Arrays = Mapping[str, Tensor]
"""What is compared of a batch of one dataset, by name: `logits` (B, classes), `L1` (B, D), `L2` to `L4` (B, C, h, w),
`label_embeddings` (B, classes, d). Of a teacher only what was asked for is there, and its label embeddings may be 0 for
labels that a sample does not have."""


@dataclass
class Outputs:
    """The outputs of a network for a batch.

    Attributes:
        vector: (B, D), pooled features behind the latent layer; level L1. Classifiers see it, but for those of a
            label-wise encoder, which see the map L2.
        maps: (B, C, h, w) for each tapped level L2, L3, L4.
        logits: (B, classes) for each dataset that the network has a head for.
        label_embeddings: (B, classes, d) for each of them, where there is a label-wise encoder.
    """

    vector: Tensor
    maps: dict[str, Tensor] = field(default_factory=dict)
    logits: dict[str, Tensor] = field(default_factory=dict)
    label_embeddings: dict[str, Tensor] = field(default_factory=dict)

    def arrays(self, dataset: str, names: Iterable[str] | None = None) -> dict[str, Tensor]:
        """Arrays of one dataset by name; all of them, or some.

        Raises:
            UserError: the network has no array of a name.
        """
        found = {"logits": self.logits.get(dataset), "L1": self.vector} | self.maps
        found["label_embeddings"] = self.label_embeddings.get(dataset)
        there = {name: value for name, value in found.items() if value is not None}
        missing = [name for name in names or () if name not in there]
        if missing:
            raise UserError(f"{missing[0]}: the network has none, but {', '.join(there)}")
        return there if names is None else {name: there[name] for name in names}


def shapes_of(arrays: Arrays) -> dict[str, tuple[int, ...]]:
    """Shape of one sample's part of each array."""
    return {name: tuple(value.shape[1:]) for name, value in arrays.items()}
