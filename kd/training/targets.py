"""Where a student's targets come from: see `kd.training.stored` and `kd.training.live`; or from nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from kd.data.loader import ColumnGroup, SubBatch


class TargetSource(Protocol):
    """Gives the targets of any batch of the training split, of the view that the student sees."""

    @property
    def groups(self) -> Sequence[ColumnGroup]:
        """What is read from disk; none, where teachers look at the images themselves."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of one sample's targets by name."""

    def targets(self, sub_batch: SubBatch, images: Tensor) -> dict[str, Tensor]:
        """Targets of a batch; `sub_batch` is what was read, `images` the view of it as the student sees it."""


class NoTargets:
    """For a method that learns from labels alone."""

    groups: Sequence[ColumnGroup] = ()

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """None."""
        return {}

    def targets(self, sub_batch: SubBatch, images: Tensor) -> dict[str, Tensor]:  # noqa: ARG002
        """Nothing."""
        return {}
