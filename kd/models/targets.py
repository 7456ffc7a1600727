"""What a student is distilled from: logits, distilled maps and a vector for each sample of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor, nn

from kd.models.network import Heads

Embeddings = Sequence[dict[str, Tensor]]  # per teacher: level -> (B, D) or (B, C, h, w)


@dataclass(frozen=True)
class Targets:
    """Soft targets of a batch.

    Attributes:
        logits: (B, classes).
        vector: (B, D), the input of the classifier that made the logits; None: nobody asked for it.
        maps: level of the student -> (B, C, h, w) that the student's map of that level should equal.
    """

    logits: Tensor
    vector: Tensor | None = None
    maps: dict[str, Tensor] = field(default_factory=dict)

    def flip(self) -> Targets:
        """In reversed order: those of each sample's partner, where samples are mixed."""
        vector = None if self.vector is None else self.vector.flip(0)
        return Targets(self.logits.flip(0), vector, {level: value.flip(0) for level, value in self.maps.items()})


class TargetMaker(Protocol):
    """A frozen teacher that works on cached embeddings."""

    def make_targets(self, embeddings: Embeddings, dataset: str) -> Targets:
        """Targets for a batch of a dataset, from the embeddings of each of its teachers."""


class IndividualTargets(nn.Module):
    """The individual teacher itself as the source of targets: single-dataset distillation.

    Args:
        heads: the teacher's classifiers by dataset; applied to its cached vector they give its logits.
    """

    def __init__(self, heads: Heads) -> None:
        super().__init__()
        self.heads = heads

    def make_targets(self, embeddings: Embeddings, dataset: str) -> Targets:
        """Logits of the teacher, and its own maps at the levels that were cached."""
        (own,) = embeddings
        maps = {level: value for level, value in own.items() if level != "L1"}
        return Targets(self.heads[dataset](own["L1"]), own["L1"], maps)
