"""What a student or its teacher says of a batch of one dataset."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from kd.models.spec import ARRAYS, MAP_LEVELS


@dataclass
class Outputs:
    """What a distillation loss compares.

    Attributes:
        logits: (B, classes); of a teacher None where nobody asked for them.
        vector: (B, D), level L1, pooled features; None: nobody asked for it.
        maps: level L2, L3 or L4 -> (B, C, h, w).
        label_embeddings: (B, classes, d); of a teacher those of labels that a sample does not have may be
            missing, and are 0 then. None: nobody asked for them.
    """

    logits: Tensor | None = None
    vector: Tensor | None = None
    maps: dict[str, Tensor] = field(default_factory=dict)
    label_embeddings: Tensor | None = None

    @classmethod
    def of(cls, values: Mapping[str, Tensor]) -> Outputs:
        """Of arrays by name: `logits`, `L1` to `L4`, `label_embeddings`."""
        maps: dict[str, Tensor] = {name: value for name, value in values.items() if name in MAP_LEVELS}
        return cls(values.get("logits"), values.get("L1"), maps, values.get("label_embeddings"))

    def named(self, names: Iterable[str]) -> dict[str, Tensor]:
        """As `of` takes them."""
        values = {"logits": self.logits, "L1": self.vector, "label_embeddings": self.label_embeddings} | self.maps
        return {name: value for name in names if (value := values.get(name)) is not None}

    def flip(self) -> Outputs:
        """In reversed order: those of each sample's partner, where samples are mixed."""
        return Outputs.of({name: value.flip(0) for name, value in self.named(ARRAYS).items()})
