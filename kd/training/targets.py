"""Where a student's targets come from: see `kd.training.stored` and `kd.training.live`; or from nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from kd.data.feed import Piece, Table
from kd.models.outputs import Outputs


class TargetSource(Protocol):
    """Gives the targets of any batch of the training split, of the view that the student sees."""

    @property
    def tables(self) -> Sequence[Table]:
        """What is read from disk; none, where teachers look at the pictures themselves."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of one sample's targets by name."""

    def targets(self, piece: Piece, images: Tensor) -> Outputs:
        """Targets of a batch; `piece` is what was read, `images` the view of it as the student sees it."""


class NoTargets:
    """For a method that learns from labels alone."""

    tables: Sequence[Table] = ()

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """None."""
        return {}

    def targets(self, piece: Piece, images: Tensor) -> Outputs:  # noqa: ARG002
        """Nothing."""
        return Outputs()
