"""What a distillation method is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from kd.models.spec import Level, map_levels
from kd.options import BaseOptions

if TYPE_CHECKING:
    from torch import Tensor

    from kd.models.targets import Targets


class DistillerOptions(BaseOptions):
    """Typed options of a method; `name` is the name of its file."""

    name: str


class StudentOutputs(Protocol):
    """What the student says of a batch, already brought to the shapes of the targets."""

    @property
    def logits(self) -> Tensor:
        """(B, classes)."""

    @property
    def vector(self) -> Tensor | None:
        """(B, D) as the targets' vector; only where the method asks for it."""

    @property
    def maps(self) -> Mapping[str, Tensor]:
        """Level -> (B, C, h, w) as the targets' maps; only where the method asks for them."""


class Distiller(Protocol):
    """A module in `kd/distillers/`. Importing one is cheap: torch is imported inside its functions."""

    Options: type[DistillerOptions]

    def uses_maps(self, options: Any) -> bool:
        """Whether the loss compares maps, where the teacher's level has any."""

    def uses_vector(self, options: Any) -> bool:
        """Whether the loss compares vectors."""

    def loss(self, student: StudentOutputs, targets: Targets, labels: Tensor, options: Any) -> Tensor:
        """Scalar loss of a batch; `labels` are (B,) class ids."""


def target_names(level: Level, method: Distiller, options: DistillerOptions) -> list[str]:
    """What a method needs of a joint teacher fused at `level`: `logits`, maps by level, `vector`."""
    maps = map_levels(level) if method.uses_maps(options) else ()
    return ["logits", *maps, *(["vector"] if method.uses_vector(options) else [])]
