"""What a student or its teacher says of a batch of one dataset."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Outputs:
    """What a distillation loss compares.

    Attributes:
        logits: (B, classes); of a teacher None where nobody asked for them.
        vector: (B, D), level L1; None: nobody asked for it.
        maps: level L2, L3 or L4 -> (B, C, h, w).
        label_embeddings: (B, classes, d); of a teacher those of labels that a sample does not have may be
            missing, and are 0 then. None: nobody asked for them.
    """

    logits: Tensor | None = None
    vector: Tensor | None = None
    maps: dict[str, Tensor] = field(default_factory=dict)
    label_embeddings: Tensor | None = None

    def flip(self) -> Outputs:
        """In reversed order: those of each sample's partner, where samples are mixed."""
        return Outputs(
            *(None if each is None else each.flip(0) for each in (self.logits, self.vector)),
            {level: value.flip(0) for level, value in self.maps.items()},
            None if self.label_embeddings is None else self.label_embeddings.flip(0),
        )
