"""What a distillation method is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge, MinLen
from pydantic import AfterValidator

from kd.common.options import BaseOptions, each_once
from kd.data.options import Task
from kd.models.spec import Level, MapLevel

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kd.models.outputs import Arrays

Shapes = Mapping[str, tuple[int, ...]]
"""Of one sample, by what it is: `logits` (classes,), `L1` (D,), `L2` to `L4` (C, h, w), `label_embeddings`
(classes, d)."""


MapLevels = Annotated[tuple[MapLevel, ...], MinLen(1), AfterValidator(each_once)]

Reduction = Literal["paper", "batch_mean"]

REFERENCE_BATCH = 64  # the batch size that L2D's weights belong to


@dataclass(frozen=True)
class Required:
    """The arrays that a method compares; those of the teacher are cached, or computed live, for it.

    Attributes:
        levels: L1: vectors of pooled features; L2, L3, L4: maps of the last three stages.
        logits: of the teacher; those of the student are always there.
        label_embeddings: an embedding for each label, which networks with a `label_encoder` have.
    """

    levels: tuple[Level, ...] = ()
    logits: bool = False
    label_embeddings: bool = False

    def names(self) -> tuple[str, ...]:
        """Names of all arrays, as in `Shapes`."""
        logits = ("logits",) if self.logits else ()
        return (*logits, *self.levels, *(("label_embeddings",) if self.label_embeddings else ()))


@dataclass(frozen=True)
class Batch:
    """Labels, row numbers and position of a batch: all that a loss knows beside the networks' outputs.

    Attributes:
        labels: (B,) int64 class ids; or, multi-label, (B, classes) of 0 and 1.
        rows: (B,) int64: which samples of the training split, counted from 0.
        epoch: from 0.
        batch_size: samples of the optimiser's step; B of them are here, where it is computed in parts.
        seed: for a torch.Generator, if the loss draws: that of the step, in all processes and passes.
    """

    labels: Tensor
    rows: Tensor
    epoch: int
    batch_size: int
    seed: int


class Distiller(BaseOptions):
    """A method: its options and its loss. Subclasses are called `Method`, one in each module of this folder.

    Importing such a module is cheap: torch is imported inside its methods.
    """

    name: str
    """Of the method: that of its file."""
    label_weight: Annotated[float, Ge(0)] = 1.0
    """w: of the label loss: the cross-entropy with the labels; multi-label the binary one, summed over labels."""

    TASKS: ClassVar[tuple[Task, ...]] = ("single_label", "multi_label")
    """What the method makes sense for."""
    NEEDS_GLOBAL_BATCH: ClassVar[bool] = False
    """Whether samples are compared with each other, so that processes that share a batch need all of it."""
    SUPPORTS_MIXUP: ClassVar[bool] = True
    """Whether the loss of a mixed image (mixup, cutmix) may be the mean of those with either image's targets."""
    NEEDS_LEVEL: ClassVar[bool] = False
    """Whether the config says how deep maps are compared with an individual teacher."""
    REQUIRED: ClassVar[Required]
    """The arrays that are compared, where neither options nor the level change them."""

    def required(self, level: Level | None) -> Required:
        """The arrays that are compared.

        Args:
            level: how deep maps are wanted; that of the joint teacher, or of the config. Most methods do without.
        """
        return self.REQUIRED

    def auxiliary(self, student: Shapes, teacher: Shapes, samples: int) -> nn.Module | None:
        """Modules trained beside the student, such as projectors, and thrown away afterwards.

        Args:
            student: shapes of all that `required` names.
            teacher: as `student`.
            samples: size of the training split.
        """
        return None

    def loss(self, student: Arrays, teacher: Arrays, batch: Batch, auxiliary: nn.Module | None) -> Tensor:
        """Scalar loss of a batch, with that of the labels: float32, finite for all input that fits in float16.

        Of a batch that is computed in parts, the loss is the mean of those of its parts, weighted by their samples.

        Args:
            student: with gradients; its maps and vectors as it has them.
            teacher: what `required` names, without gradients.
            batch: labels and more.
            auxiliary: as made by `auxiliary`.
        """
        raise NotImplementedError


class MultiLabelDistiller(Distiller):
    """A method whose terms are weighted and summed as those of L2D are."""

    reduction: Reduction = "paper"
    """Multi-label only. paper: the label loss as a sum over the batch, the others as they are, as L2D's authors do;
    batch_mean: all by sample, so scaled that it is `paper` / 64 in batches of 64."""

    TASKS: ClassVar[tuple[Task, ...]] = ("multi_label",)

    def combined(
        self, student: Arrays, batch: Batch, *, means: Tensor | float = 0.0, sums: Tensor | float = 0.0
    ) -> Tensor:
        """The loss: that of the labels, and other terms.

        Args:
            student: as in `loss`.
            batch: as in `loss`.
            means: weighted terms that are means over `batch`.
            sums: weighted terms that are sums over `batch` or its classes.
        """
        from kd.distillers.losses import label_loss

        label = self.label_weight * label_loss(student, batch.labels)
        if batch.labels.ndim == 1:
            return label + means
        by_sample = label + sums / len(batch.labels)
        if self.reduction == "paper":
            return batch.batch_size * by_sample + means
        return by_sample + means / REFERENCE_BATCH
