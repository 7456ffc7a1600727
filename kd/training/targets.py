"""Where a student's targets come from: a store, live teachers, or, for labels alone, nowhere. Imports no torch.

What uses stores or live teachers is loaded by name, so that its code counts only in the keys of jobs that need it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from kd.data.loader import ColumnGroup, SubBatch

LIVE = "kd.training.live_teachers"
STORED = "kd.training.cached_targets"


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
