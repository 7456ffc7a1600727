"""What a network is, before any weight exists. Imports no torch: the config and the plan use it too."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from annotated_types import Ge, Gt, Lt
from pydantic import AfterValidator, StringConstraints, model_validator

from kd.common.options import BaseOptions

Level = Literal["L1", "L2", "L3", "L4"]
LEVELS: tuple[Level, ...] = get_args(Level)
MapLevel = Literal["L2", "L3", "L4"]
MAP_LEVELS: tuple[MapLevel, ...] = get_args(MapLevel)
ARRAYS = ("logits", *LEVELS, "label_embeddings")
"""Names of what a network computes for a sample, in the order in which they are listed."""


def map_levels(level: Level) -> tuple[Level, ...]:
    """Levels of the distilled maps of a joint teacher fused at `level`, from shallow to deep: L4, L3, L2."""
    return LEVELS[LEVELS.index(level) : 0 : -1]


class LabelEncoderOptions(BaseOptions):
    """The label-wise embedding encoder of multi-label networks (L2D): an embedding for each label.

    Examples:
        >>> import kd
        >>> kd.create_network("test_resnet", 5, label_encoder=kd.LabelEncoderOptions(width=64)).labels.encoder.dropout
        Dropout(p=0.1, inplace=False)
    """

    width: Annotated[int, Gt(0)] = 768
    """Length of an embedding."""
    heads: Annotated[int, Gt(0)] = 8
    """Heads of the attention; divides `width`."""
    hidden: Annotated[int, Gt(0)] = 2048
    """Width of the feed-forward layer."""
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.1
    """Dropout after each step of the layer."""

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"heads: {self.heads}, expected a divisor of width ({self.width})")
        return self


class Checkpoint(BaseOptions):
    """A checkpoint of your own.

    Whatever stands around the weights or in front of their names (`state_dict`, `model.`, `module.`, `_orig_mod.`, …)
    is recognised. Of a moving average (EMA) and the raw weights the average is taken, which the log and the manifest
    say. ResNets of MMAction2 (TSN and TSM, 0.x and 1.x) and of mit-han-lab's temporal-shift-module are read under the
    names that they have there.
    """

    path: Path
    """A .safetensors file, or a torch file of tensors (loaded with `weights_only`, so it runs no code)."""
    match: Literal["name", "order"] = "name"
    """How tensors are matched: by `name`; or by `order`, for a torch file of another code base whose tensors have the
    same shapes in the same order."""
    digest: str | None = None
    """Digest of path, size and modification time: another file is another network. Filled in by the program."""


# What `timm.create_model` takes but an architecture does not: it decides what is loaded, from where and onto what, or
# what comes out, which is for other keys to say.
NOT_OF_THE_ARCHITECTURE = (
    *("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "pretrained_model_args", "pretrained_strict"),
    *("pretrained_filter_fn", "checkpoint_path", "cache_dir", "model_name", "variant", "model_cls", "model_cfg"),
    *("features_only", "feature_cfg", "feature_cls", "out_indices", "kwargs_filter", "num_classes", "in_chans"),
    *("device", "dtype", "scriptable", "exportable", "no_jit"),
)


def _plain_architecture(name: str) -> str:
    """Refuse names by which timm loads what lies elsewhere, such as `hf-hub:OWNER/NAME` or `local-dir:FOLDER`."""
    if not re.fullmatch(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_-]+)?", name):
        raise ValueError("expected the name of a timm model, such as resnet18 or resnet18.a1_in1k")
    return name


def _of_the_architecture(kwargs: dict[str, Any]) -> dict[str, Any]:
    for name in kwargs:
        if name in NOT_OF_THE_ARCHITECTURE:
            raise ValueError(f"{name} is given, expected arguments of the architecture alone")
    if kwargs.get("global_pool") == "":
        raise ValueError(
            "global_pool is '', but level L1 is the pooled features; expected a kind of pooling, such as avg"
        )
    try:
        json.dumps(kwargs, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError("expected finite numbers, words, true and false, and lists and mappings of these") from error
    return kwargs


Architecture = Annotated[str, AfterValidator(_plain_architecture)]
Kwargs = Annotated[dict[str, Any], AfterValidator(_of_the_architecture)]
HeadSizes = dict[Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]+$")], Annotated[int, Gt(0)]]


class ModelSpec(BaseOptions):
    """A backbone with a latent layer and a classifier (MLFD: individual teachers and students)."""

    backbone: str = "timm"
    """Kind of backbone: `timm` for images; `tsn` or `tsm` for clips; one of an installed package, by its name; or a
    module of yours, by its full name."""
    architecture: Architecture
    """Name of a timm model; of another backbone, what that takes."""
    kwargs: Kwargs = {}
    """Further arguments of the architecture, such as `drop_rate` (dropout of the pooled features), `drop_path_rate`,
    `output_stride`, and of the backbone. Not those by which `timm.create_model` loads weights or changes inputs and
    outputs (`pretrained_cfg`, `checkpoint_path`, `num_classes`, `in_chans`, `features_only`, …)."""
    latent_dim: Annotated[int, Gt(0)] | None = None
    """Width of the linear layer between backbone and classifier, whose output is level L1; `null`: the pooled features
    are L1. MLFD's paper has 2048 for light networks and 768 for larger ones."""
    label_encoder: LabelEncoderOptions | None = None
    """Of multi-label networks, instead of a latent layer and a classifier on pooled features: an embedding for each
    label, from the last map, and a classifier of its own for each (L2D); `null`: none."""
    weights: Literal["scratch", "pretrained"] | Checkpoint = "scratch"
    """Where the backbone starts: `scratch`; `pretrained`: timm's weights; or a checkpoint of yours."""
    registry: str | None = None
    """Where pretrained weights are from, such as `timm==1.0.31`, since what timm has under a name belongs to its
    version. Filled in by the program."""
    input_size: tuple[Annotated[int, Ge(8)], Annotated[int, Ge(8)]] | None = None
    """Height and width that the network resizes images to; `null`: the size of the dataset."""
    mean: tuple[float, float, float] | None = None
    """Mean of each RGB channel in 0..1, which the input is normalised with. `null`: for a network trained from scratch
    that of its training images; for given weights that which they were trained with, as timm records it for the
    architecture or as it is stored beside a checkpoint of this project."""
    std: tuple[float, float, float] | None = None
    """Standard deviation of each channel, as `mean`."""

    @model_validator(mode="after")
    def _one_kind_of_head(self) -> Self:
        if self.label_encoder is not None and self.latent_dim is not None:
            raise ValueError(f"latent_dim: {self.latent_dim}, expected null, since there is a label_encoder")
        return self


class NetworkConfig(BaseOptions):
    """All that is needed to build a network again: stored beside its weights as network.json."""

    backbone: str = "timm"
    architecture: Architecture
    kwargs: Kwargs
    options: dict[str, Any] = {}
    """Of the backbone, beside those of the architecture."""
    latent_dim: Annotated[int, Gt(0)] | None
    label_encoder: LabelEncoderOptions | None = None
    input_size: tuple[Annotated[int, Gt(0)], Annotated[int, Gt(0)]]
    mean: tuple[float, float, float]
    """Per RGB channel in 0..1, as is `std`: what the network normalises its input with."""
    std: tuple[float, float, float]
    heads: HeadSizes
    """Classes of each dataset that the network has a classifier for."""


def untrained(model: ModelSpec) -> ModelSpec:
    """The model without the weights that it brings: for whoever wants its shapes alone."""
    return model.model_copy(update={"weights": "scratch", "registry": None})


class JointOptions(BaseOptions):
    """What a joint teacher is, apart from the embeddings that it fuses and the datasets that it is for."""

    level: Level
    """Where the individual teachers are tapped."""
    student: ModelSpec | None
    """Whose map shapes the distilled maps take; None (scope shared, or L1): `width` channels on the teachers' grid."""
    width: int
    """Channels of the adaptors."""
    dropout: float
    """Before the heads, or before the label encoder."""
    label_encoder: LabelEncoderOptions | None
    """For multi-label targets, or None."""
