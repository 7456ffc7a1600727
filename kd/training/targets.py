"""Where a student's targets come from: `cached_targets`, `live_teachers`, or, for labels alone, nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from kd.data.loader import ColumnGroup, SubBatch


class TargetSource(Protocol):
    """Gives the targets of any batch of the training split, of the view that the student sees."""

    @property
    def groups(self) -> Sequence[ColumnGroup]:
        """Arrays read from disk; none where teachers look at the images themselves."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of one sample's targets by name."""

    def targets(self, sub_batch: SubBatch, images: Tensor) -> dict[str, Tensor]:
        """Targets of a batch; `sub_batch` is what was read, `images` the view of it as the student sees it."""


class NoTargets:
    """No targets: for a method that learns from labels alone."""

    groups: Sequence[ColumnGroup] = ()

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """None."""
        return {}

    def targets(self, sub_batch: SubBatch, images: Tensor) -> dict[str, Tensor]:  # noqa: ARG002
        """Nothing."""
        return {}
