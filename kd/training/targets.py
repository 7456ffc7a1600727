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
    """Gives the targets of any batch of the training split, for the view that the student sees."""

    @property
    def groups(self) -> Sequence[ColumnGroup]:
        """Arrays read from disk; none where live teachers look at what the student is given."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of one sample's targets by name."""

    def targets(self, sub_batch: SubBatch, images: Tensor) -> dict[str, Tensor]:
        """Targets of a batch, by name, (B, ...) on the device.

        Args:
            sub_batch: what was read from `groups`.
            images: (B, ...) the view of the samples that the student sees, before they are mixed.
        """


class NoTargets:
    """No targets: for a method that learns from labels alone."""

    groups: Sequence[ColumnGroup] = ()

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """None."""
        return {}

    def targets(self, sub_batch: SubBatch, images: Tensor) -> dict[str, Tensor]:  # noqa: ARG002
        """Nothing."""
        return {}
