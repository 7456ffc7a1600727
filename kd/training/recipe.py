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
    """`sgd` has Nesterov momentum; `adam` couples weight decay to the gradient, `adamw` does not."""
    lr: Positive
    """Learning rate; the peak one where there is a schedule."""
    head_lr: Positive = 1.0
    """Learning rate of classifiers, as a multiple of `lr`, for weights and biases alike. (TSM's authors have 5 for the
    weights of the last layer, 10 for its biases.)"""
    weight_decay: Annotated[float, Ge(0)] = 0.0
    """Weight decay of matrices and kernels. Biases, norms and what the timm model names in `no_weight_decay` (class
    tokens, position embeddings, Swin's tables of biases) have none."""
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.9
    """Momentum of `sgd`; the other optimisers do not use it."""
    schedule: Literal["constant", "cosine", "one_cycle", "step"] = "cosine"
    """Learning rate over the steps of the run: `constant`; `cosine`: half a cosine to 0; `one_cycle`: torch's
    OneCycleLR (momentum stays as it is); `step`: a tenth after each of `milestones`."""
    milestones: list[Annotated[int, Gt(0)]] = []
    """Of the schedule `step`: the numbers of epochs after which the learning rate falls, in ascending order, such as
    `[10, 20]`."""
    warmup: Annotated[float, Ge(0), Lt(1)] = 0.05
    """Part of the run in which the learning rate rises (0 in the usual recipes with `step`); not used by `constant`."""
    epochs: Annotated[int, Gt(0)]
    """Passes over the training split."""
    schedule_epochs: Annotated[int, Gt(0)] | None = None
    """Epochs that the schedule is laid out for, where training stops before its end; `null`: `epochs`."""
    batch_size: Annotated[int, Ge(2)]
    """Samples in a step; batch norm needs two at least. An epoch is cut into batches of nearly equal size."""
    accumulate: Annotated[int, Gt(0)] = 1
    """Passes in which a step computes its batch, part by part, where the whole does not fit into memory. The step is
    the same up to rounding, but batch norm, and methods that compare samples with each other, see one part at a
    time."""
    label_smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Label smoothing of the cross-entropy with labels: labels go towards 1 / classes; on multi-label data, where each
    label is a question of its own, towards 1/2. Not used in distillation."""
    mixup: Annotated[float, Ge(0)] = 0.0
    """Blends every image with another one of its batch, and their targets: alpha of the Beta distribution that the
    batch's coefficient is drawn from; 0: off."""
    cutmix: Annotated[float, Ge(0)] = 0.0
    """Pastes a box of another image of the batch, and mixes targets by area: alpha as of `mixup`; 0: off. With both on,
    each batch takes one of them, with equal probability. Neither is for the recipe of a joint teacher, which sees no
    images."""
    freeze_norm: Literal["none", "all_but_first", "all"] = "none"
    """Batch norms that stay as they are, statistics and parameters, in a network that begins with given weights: none,
    all but the first one (partial batch norm, as TSN and TSM are fine-tuned), or all."""
    clip_grad: Positive | None = None
    """Largest norm of the gradient; `null`: any."""
    ema: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Decay of a moving average of the weights (such as 0.999, reached over the first steps), which is then what is
    measured and kept; 0: none."""
    precision: Literal["32", "bf16-mixed", "16-mixed"] = "32"
    """Precision of the forward and backward pass; `32` uses TF32 on GPUs."""
    compile: bool = False
    """Whether torch.compile makes the network faster; it takes a minute at the start, and a C++ compiler."""
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

    Examples:
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
