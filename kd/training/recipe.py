"""How networks are trained: recipes, and the specs of joint teachers and students.

Options only; `kd.training.optimisation` and `kd.training.loop` do it. Imports no torch.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from annotated_types import Ge, Gt, Lt
from pydantic import model_validator

from kd.common.options import BaseOptions
from kd.data.options import Augmentation
from kd.embeddings.options import CacheOptions
from kd.models.spec import JointOptions, Level, ModelSpec

LIVE = "kd.training.live_teachers"
STORED = "kd.training.cached_embeddings"
"""What uses live teachers, and what uses stored targets: loaded by name, so that its code counts only in the keys of
jobs that need it."""

Positive = Annotated[float, Gt(0)]


class RecipeOptions(BaseOptions):
    """Optimiser, schedule, epochs, batch size, precision."""

    optimizer: Literal["sgd", "adam", "adamw"] = "adamw"
    """SGD has Nesterov momentum; Adam couples weight decay to the gradient, AdamW does not."""
    lr: Positive
    """Learning rate: the peak one, where there is a schedule."""
    head_lr: Positive = 1.0
    """Learning rate of classifiers, as a multiple of `lr`, which all else has."""
    weight_decay: Annotated[float, Ge(0)] = 0.0
    """Weight decay of matrices and kernels; biases, norms and the timm model's `no_weight_decay` have none."""
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.9
    """Momentum of SGD; the other optimisers do not use it."""
    schedule: Literal["constant", "cosine", "one_cycle", "step"] = "cosine"
    """Learning rate over the steps of the run: constant, half a cosine to 0, torch's OneCycleLR (momentum stays), or
    steps: a tenth after each of `milestones`."""
    milestones: list[Annotated[int, Gt(0)]] = []
    """Of the schedule step: epochs after which the learning rate falls to a tenth, in ascending order."""
    warmup: Annotated[float, Ge(0), Lt(1)] = 0.05
    """Part of the run in which the learning rate rises; not used by constant."""
    epochs: Annotated[int, Gt(0)]
    """Passes over the training split."""
    schedule_epochs: Annotated[int, Gt(0)] | None = None
    """Epochs that the schedule is laid out for, where training stops before its end; null: `epochs`."""
    batch_size: Annotated[int, Ge(2)]
    """Images in a step; at least two, as batch norm needs."""
    accumulate: Annotated[int, Gt(0)] = 1
    """Passes in which a step computes its batch, part by part, where it does not fit into memory as a whole."""
    label_smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Label smoothing of the cross-entropy; not used in distillation."""
    mixup: Annotated[float, Ge(0)] = 0.0
    """Blend every image with another of the batch: alpha of the weight's distribution Beta(alpha, alpha); 0: off."""
    cutmix: Annotated[float, Ge(0)] = 0.0
    """Paste a box of another image of the batch: alpha as above; 0: off. With mixup: one of both in each batch."""
    freeze_norm: Literal["none", "all_but_first", "all"] = "none"
    """Batch norms of given weights that training leaves as they are, statistics and parameters: none, all but the first
    of the network (partial batch norm), or all."""
    clip_grad: Positive | None = None
    """Largest norm of the gradient."""
    ema: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Decay of a moving average of the weights, which is then what is measured and kept; 0: none."""
    precision: Literal["32", "bf16-mixed", "16-mixed"] = "32"
    """Precision of the forward and backward pass."""
    compile: bool = False
    """Let torch.compile make the network faster; it takes a minute at the start."""
    selection: Literal["best_val", "last"] = "best_val"
    """Which weights are kept and used further on; the tables show both."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.batch_size < 2 * self.accumulate:
            raise ValueError(f"batch_size ({self.batch_size}) must be at least twice accumulate ({self.accumulate})")
        if self.schedule_epochs is not None and self.schedule_epochs < self.epochs:
            raise ValueError(f"schedule_epochs ({self.schedule_epochs}) must be at least epochs ({self.epochs})")
        if (self.schedule == "step") != bool(self.milestones):
            raise ValueError(
                f"milestones are {self.milestones}, expected some with schedule step, and none with others"
            )
        last = (self.schedule_epochs or self.epochs) - 1
        if self.milestones != sorted({each for each in self.milestones if each <= last}):
            raise ValueError(f"milestones are {self.milestones}, expected ascending numbers of epochs from 1 to {last}")
        return self


class Recipe(RecipeOptions):
    """A recipe with all that it names.

    Example:
        >>> import kd
        >>> kd.Recipe(lr=1e-3, epochs=10, batch_size=64).schedule
        'cosine'
    """

    augmentation: Augmentation | None = None
    """What a view may do to an image; None: nothing."""


class JointSpec(JointOptions):
    """Options that a joint teacher depends on, beside its datasets and embeddings."""

    teachers: list[str]
    targets: list[str]
    views: int | None
    """Stored views; None: the teachers look at a new view in each epoch."""
    live: CacheOptions | None
    """Resolution of maps where teachers are live; None: they are not."""
    recipe: Recipe
    seed: int
    """Of initial weights, order, views and dropout."""


class StudentSpec(BaseOptions):
    """Options that a student depends on, beside its dataset and its targets."""

    dataset: str
    level: Level | None
    """Of the joint teacher; of an individual one how deep maps are compared, where the method leaves that open."""
    individual: bool
    """The one individual teacher itself makes the targets; otherwise a joint teacher does."""
    model: ModelSpec
    distiller: dict[str, Any]
    views: int | None
    """Stored views, which repeat over the epochs; None: a new one in each epoch."""
    live: CacheOptions | None
    """Resolution of maps where teachers are live; None: they are not."""
    live_teachers: list[str]
    """Individual teachers behind the targets, where they are live."""
    recipe: Recipe
    """Its augmentation makes the views."""
    seed: int
    """Of initial weights, order, views and dropout."""
