"""Individual teachers and students: a timm backbone, a latent layer, a classifier per dataset, and taps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from kd.jobs.errors import UserError
from kd.models.label_encoder import LabelClassifier
from kd.models.spec import LEVELS, Level, NetworkConfig

MAX_STAGES = 8
ModuleT = TypeVar("ModuleT", bound=nn.Module)


@dataclass
class Features:
    """What a network says of a batch.

    Attributes:
        vector: (B, D), pooled features behind the latent layer; level L1. Classifiers see it, but for those of a
            label-wise encoder, which see the map L2.
        maps: (B, C, h, w) for each tapped level L2, L3, L4.
        logits: (B, classes) for each dataset that the network has a head for.
        label_embeddings: (B, classes, d) for each of them, where there is a label-wise encoder.
    """

    vector: Tensor
    maps: dict[str, Tensor] = field(default_factory=dict)
    logits: dict[str, Tensor] = field(default_factory=dict)
    label_embeddings: dict[str, Tensor] = field(default_factory=dict)

    def named(self, name: str, dataset: str) -> Tensor:
        """One of them: a level, or `logits` or `label_embeddings` of a dataset."""
        if name == "L1":
            return self.vector
        by_dataset = {"logits": self.logits, "label_embeddings": self.label_embeddings}
        return by_dataset[name][dataset] if name in by_dataset else self.maps[name]


class Network(nn.Module):
    """backbone -> latent (linear, no activation) -> heads (MLFD, individual teachers).

    With a label-wise encoder: backbone -> last map -> an embedding for each label -> a classifier for each (L2D).

    Input is RGB in 0..1 of any size; the network resizes and normalises it itself, so that teachers of
    different input sizes and statistics can look at the same view.

    Raises:
        UserError: timm does not know the architecture or refuses its arguments.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.notes: dict[str, int] = {}  # what is to be said of the weights that it was given, and how often
        self.backbone = create_backbone(config)
        # Some heads widen the pooled features before the classifier.
        features = getattr(self.backbone, "head_hidden_size", None) or self.backbone.num_features
        width = config.latent_dim or features
        self.latent = nn.Linear(features, width) if config.latent_dim else nn.Identity()
        self.heads = Heads(width, {} if config.label_encoder else config.heads)
        self.labels = (
            LabelClassifier(self.backbone.num_features, config.heads, config.label_encoder)
            if config.label_encoder
            else None
        )
        self.register_buffer("mean", torch.tensor(config.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config.std).view(1, 3, 1, 1), persistent=False)
        self.backbone.to(memory_format=torch.channels_last)  # convolutions are faster so, on CPUs and on GPUs

    def forward(self, images: Tensor, levels: Sequence[Level] = ()) -> Features:
        """Classify a batch and tap it.

        Args:
            images: (B, 3, H, W) float RGB in 0..1.
            levels: which of L2, L3, L4 to return maps of; the vector (L1) and logits always come.
        """
        tapped = {*levels, "L2"} if self.labels is not None else {*levels}
        pooled, maps = self._backbone(self.normalise(images), [level for level in LEVELS[1:] if level in tapped])
        vector = self.latent(pooled)
        if self.labels is None:
            return Features(vector, maps, self.heads(vector))
        logits, embeddings = self.labels(maps["L2"])
        # What only the vector comes from has a gradient of zero, not none: other processes wait for one.
        zero = vector[:0].sum()
        return Features(vector, maps, {name: each + zero for name, each in logits.items()}, embeddings)

    def normalise(self, images: Tensor) -> Tensor:
        """Resize to the network's input size and normalise with its statistics."""
        return (resize_images(images, self.config.input_size) - self.mean).div_(self.std)

    def _backbone(self, inputs: Tensor, levels: list[Level]) -> tuple[Tensor, dict[str, Tensor]]:
        if not levels:
            return self.backbone(inputs), {}
        indices = {tap_index(self.backbone, level): level for level in levels}
        # Not to stop early: the last of the taps may not be the end, which the vector comes from.
        final, taps = self.backbone.forward_intermediates(
            inputs, indices=sorted(indices), stop_early=False, output_fmt="NCHW"
        )
        maps: dict[str, Tensor] = {indices[index]: each for index, each in zip(sorted(indices), taps, strict=True)}
        if "L2" in maps:
            maps["L2"] = as_map(self.backbone, final, maps["L2"])
        return self.backbone.forward_head(final, pre_logits=True), maps


class Heads(nn.Module):
    """A linear classifier per dataset, whatever the names of the datasets are."""

    def __init__(self, width: int, classes: dict[str, int]) -> None:
        super().__init__()
        # The prefix keeps names such as `train` or `type` off the attributes of nn.ModuleDict.
        self.by_dataset = nn.ModuleDict({f"on_{name}": nn.Linear(width, count) for name, count in classes.items()})

    def __getitem__(self, dataset: str) -> nn.Linear:
        head = self.by_dataset[f"on_{dataset}"]
        assert isinstance(head, nn.Linear)
        return head

    def datasets(self) -> list[str]:
        """Names of the datasets."""
        return [name.removeprefix("on_") for name in self.by_dataset]

    def forward(self, vector: Tensor) -> dict[str, Tensor]:
        """(B, D) to logits (B, classes) by dataset."""
        return {name: self[name](vector) for name in self.datasets()}


def create_backbone(config: NetworkConfig, classes: int = 0) -> Any:
    """The timm model with its own initialisation; `classes` 0: without its classifier.

    Typed as Any: timm's models have attributes and methods that nn.Module does not promise.
    """
    try:
        return timm.create_model(config.architecture, num_classes=classes, **config.kwargs)
    except Exception as error:  # timm's constructors raise whatever they meet
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UserError(
            f"models.kwargs: timm cannot build {config.architecture} with {config.kwargs}: {reason}"
        ) from error


def tap_index(backbone: Any, level: Level) -> int:
    """Index into timm's feature_info of the stage that a level taps.

    The last stage is L2, the one before it L3, the one before that L4: strides 32, 16 and 8 in the usual
    networks. Plain transformers have one stage per block, all of one stride: four evenly spaced blocks are
    taken as stages.

    Raises:
        UserError: the network has too few stages.
    """
    info = list(getattr(backbone, "feature_info", ()))
    if not info or not hasattr(backbone, "forward_intermediates"):
        raise UserError(f"level {level}: timm's {type(backbone).__name__} does not offer its maps")
    count = len(info)
    depth = LEVELS.index(level)
    stages = list(range(count))
    if count > MAX_STAGES or len({stage["reduction"] for stage in info}) == 1:
        stages = sorted({round(count * quarter / 4) - 1 for quarter in (1, 2, 3, 4)})
    if depth > len(stages):
        raise UserError(f"level {level}: {type(backbone).__name__} has only {len(stages)} stages to tap")
    return stages[-depth]


def as_map(backbone: Any, final: Any, last: Tensor) -> Tensor:
    """Final features as (B, C, h, w): tokens are put on the grid of the last stage, channels-last maps permuted.

    Args:
        backbone: of timm.
        final: what its `forward_intermediates` ends with: a map, tokens (B, N, C), or several of them.
        last: map of the last stage, (B, C, h, w); it is taken itself where `final` has no token for each place.

    Raises:
        UserError: the map holds only some of the features, in networks of several branches.
    """
    rows, columns = last.shape[-2:]
    if isinstance(final, Tensor) and final.ndim == 3 and final.shape[1] >= rows * columns:
        tokens = final[:, final.shape[1] - rows * columns :]  # class and register tokens come first
        return tokens.transpose(1, 2).reshape(len(final), -1, rows, columns)
    if isinstance(final, Tensor) and final.ndim == 4:
        return final.permute(0, 3, 1, 2) if getattr(backbone, "output_fmt", "NCHW") == "NHWC" else final
    if last.shape[1] != backbone.num_features:
        raise UserError(
            f"level L2: the last map of timm's {type(backbone).__name__} holds only {last.shape[1]} of its"
            f" {backbone.num_features} features"
        )
    return last


def resize_images(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring (B, 3, H, W) pictures in 0..1 to another size, bicubic as timm does by default."""
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    return functional.interpolate(images, size=size, mode="bicubic", antialias=True).clamp(0, 1)


def resample(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring (B, C, h, w) to another grid: averaged where it shrinks, interpolated where it grows."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    if maps.shape[-2] >= size[0] and maps.shape[-1] >= size[1]:
        return functional.adaptive_avg_pool2d(maps, size)
    return functional.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def tap_shapes(network: Network, names: Sequence[str], dataset: str = "") -> dict[str, tuple[int, ...]]:
    """Shape of one sample's outputs: (D,) at L1, (C, h, w) above; `logits` and `label_embeddings` of a dataset."""
    mode = network.training
    network.eval()
    with torch.no_grad():
        levels = [level for level in LEVELS if level in names]
        features = network(torch.zeros(1, 3, *network.config.input_size), levels)
    network.train(mode)
    return {name: tuple(features.named(name, dataset).shape[1:]) for name in names}


def freeze(module: ModuleT) -> ModuleT:
    """Put a teacher beyond training: no gradients, batch-norm statistics and dropout at rest."""
    return module.eval().requires_grad_(requires_grad=False)
