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

    Examples:
        >>> import kd
        >>> kd.Required(("L1", "L2"), logits=True).names()
        ('logits', 'L1', 'L2')

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
        rows: (B,) int64: which samples of the training split, counted from 0; only crd needs them.
        epoch: from 0; it counts for methods with a warm-up.
        batch_size: samples of the optimiser's step, of which B are here, where it is computed in parts; 0: B.
        seed: for a torch.Generator, if the loss draws: that of the step, in all processes and passes.

    Examples:
        >>> import kd, torch
        >>> kd.Batch(torch.tensor([3, 1, 2]), epoch=4).batch_size
        3
    """

    labels: Tensor
    rows: Tensor | None = None
    epoch: int = 0
    batch_size: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.batch_size:
            object.__setattr__(self, "batch_size", len(self.labels))


class Distiller(BaseOptions):
    """A method: its options and its loss. Subclasses are called `Method`, one in each module of this folder.

    Importing such a module is cheap: torch is imported inside its methods.

    Examples:
        >>> import kd
        >>> class Method(kd.Distiller):
        ...     name: str = "labels"
        ...     REQUIRED = kd.Required()
        ...
        ...     def loss(self, student, teacher, batch, auxiliary):
        ...         from torch.nn import functional
        ...
        ...         return self.label_weight * functional.cross_entropy(student["logits"], batch.labels)
        >>> import torch
        >>> loss = kd.DistillationLoss(Method(label_weight=2), {"logits": (4,)}, {}, samples=10)
        >>> f"{loss({'logits': torch.zeros(1, 4)}, {}, kd.Batch(torch.tensor([3]))):.4f}"
        '2.7726'
    """

    name: str
    """Of the method: that of its file."""
    label_weight: Annotated[float, Ge(0)] = 1.0
    """w: weight of the label loss: the cross-entropy with the labels; multi-label the binary one, summed over
    labels."""

    TASKS: ClassVar[tuple[Task, ...]] = ("single_label", "multi_label")
    """What the method makes sense for."""
    NEEDS_GLOBAL_BATCH: ClassVar[bool] = False
    """Whether samples are compared with each other, so that processes that share a batch need all of it."""
    REMEMBERS_SAMPLES: ClassVar[bool] = False
    """Whether it keeps something of each sample between batches. It needs the rows of a batch then, and no sample can
    be mixed with another one (mixup, cutmix), whose loss is the mean of those with either sample's targets."""
    NEEDS_LEVEL: ClassVar[bool] = False
    """Whether the config says how deep maps are compared with an individual teacher."""
    REQUIRED: ClassVar[Required]
    """The arrays that are compared, where neither options nor the level change them."""

    def required(self, level: Level | None = None) -> Required:
        """The arrays that are compared.

        Args:
            level: how deep maps are wanted; that of the joint teacher, or of the config. Most methods do without.

        Raises:
            UserError: the method needs a level, and none is given.
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
    """How terms are summed, on multi-label data only. `paper`: the label loss is a sum over the batch, and the others
    are as they are, as L2D's authors do; `batch_mean`: all are by sample, so scaled that it is `paper` / 64 in batches
    of 64."""

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
