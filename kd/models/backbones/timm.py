"""Image networks of timm: maps of the last three stages are L2, L3 and L4, the pooled features the vector.

`architecture` is any that timm builds and whose maps can be had; `kwargs` are those of the architecture.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd.common.errors import UserError, did_you_mean
from kd.data.modalities.image import as_pixels
from kd.models.backbones.base import Backbone
from kd.models.spec import LEVELS, Checkpoint, Level, ModelSpec, NetworkConfig

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kd.data.packed import DatasetInfo
    from kd.models.network import Network

MAX_STAGES = 8


class Kind(Backbone):
    """Any architecture that timm builds and taps."""

    WEIGHTS_OF = ("timm", "tsn")

    def problems(self, model: ModelSpec) -> Iterator[str]:
        """The architecture is one of timm's."""
        name = model.architecture.split(".")[0]
        if name not in architectures():
            known = f"{did_you_mean(name, architectures())}{len(architectures())} are known"
            yield f"architecture: {name!r} is not the name of a known timm model; {known}"

    def configure(self, model: ModelSpec, dataset: DatasetInfo) -> dict[str, Any]:
        """Images at the size of the dataset, with the statistics of the weights or else of the dataset."""
        from kd.models.backbones.timm_weights import pretrained_cfg_of, stored_config

        kwargs = dict(model.kwargs)
        pretrained_cfg = pretrained_cfg_of(model.architecture)
        input_size = model.input_size or as_pixels(dataset.samples).size
        if pretrained_cfg is not None and pretrained_cfg.fixed_input_size:
            kwargs.setdefault("img_size", input_size)
        beside = stored_config(model.weights.path) if isinstance(model.weights, Checkpoint) else None
        statistics = beside or (pretrained_cfg if model.weights != "scratch" else None) or dataset
        mean, std = model.mean or statistics.mean, model.std or statistics.std
        return {"kwargs": kwargs, "input_size": input_size, "mean": mean, "std": std}

    def create(self, config: NetworkConfig) -> nn.Module:
        """The module of `create_backbone`."""
        import torch

        from kd.models.backbones.timm_weights import create_backbone

        made: nn.Module = create_backbone(config)
        return made.to(memory_format=torch.channels_last)  # convolutions are faster so, on CPUs and on GPUs

    def width(self, module: Any) -> tuple[int, int]:
        """Some heads widen the pooled features before the classifier."""
        features = int(module.num_features)
        return getattr(module, "head_hidden_size", None) or features, features

    def forward(self, module: Any, inputs: Tensor, levels: Sequence[Level]) -> tuple[Tensor, dict[str, Tensor]]:
        """Pooled vector and maps, by timm's `forward_intermediates` if maps are asked for."""
        if not levels:
            return module(inputs), {}
        final, maps = self.intermediates(module, inputs, levels)
        return module.forward_head(final, pre_logits=True), maps

    def intermediates(self, module: Any, inputs: Tensor, levels: Sequence[Level]) -> tuple[Any, dict[str, Tensor]]:
        """The final features, as timm's `forward_head` takes them, and maps (B, C, h, w) of some levels."""
        indices = {tap_index(module, level): level for level in levels}
        # Not to stop early: the last of the taps may not be the end, which the vector comes from.
        final, taps = module.forward_intermediates(inputs, indices=sorted(indices), stop_early=False, output_fmt="NCHW")
        maps: dict[str, Tensor] = {indices[index]: each for index, each in zip(sorted(indices), taps, strict=True)}
        if "L2" in maps:
            maps["L2"] = as_map(module, final, maps["L2"])
        return final, maps

    def resize(self, inputs: Tensor, config: NetworkConfig) -> Tensor:
        """(B, 3, H, W), bicubic."""
        from kd.data.views import resize_images

        return resize_images(inputs, config.input_size)

    def example(self, config: NetworkConfig) -> Tensor:
        """(1, 3, H, W)."""
        import torch

        return torch.zeros(1, 3, *config.input_size)

    def start(self, network: Network, model: ModelSpec, pretrained: Path | None) -> bool:
        """Load timm's pretrained weights, or a checkpoint."""
        from kd.models.backbones.timm_weights import load_checkpoint, take_pretrained

        if isinstance(model.weights, Checkpoint):
            return load_checkpoint(network, model.weights)
        if model.weights == "scratch":
            return False
        assert pretrained is not None
        return take_pretrained(network, pretrained)

    def fold(self, network: Network, head: str) -> nn.Module | None:
        """A plain timm model: the latent layer is linear, so it merges into the classifier.

        With a label-wise encoder, which timm does not have, there is none.
        """
        import torch
        from torch import nn

        from kd.models.backbones.timm_weights import create_backbone

        if network.labels is not None:
            return None
        linear = network.heads[head]
        weight, bias = linear.weight.double(), linear.bias.double()
        if isinstance(network.latent, nn.Linear):
            bias = bias + weight @ network.latent.bias.double()
            weight = weight @ network.latent.weight.double()
        plain = create_backbone(network.config, classes=linear.out_features)
        classifier = plain.get_classifier()
        if not isinstance(classifier, nn.Linear) or classifier.weight.shape != weight.shape:
            raise UserError(
                f"models: {network.config.architecture} has no single linear classifier, cannot be exported"
            )
        missing, unexpected = plain.load_state_dict(network.backbone.state_dict(), strict=False)
        if len(missing) > len(classifier.state_dict()) or unexpected:
            raise UserError(
                f"models: {network.config.architecture} changes with its number of classes, cannot be exported"
            )
        with torch.no_grad():
            classifier.weight.copy_(weight)
            classifier.bias.copy_(bias)
        folded: nn.Module = plain.to(network.mean.device)
        return folded

    def describe(self, network: Network, plain: Any, dataset: DatasetInfo) -> dict[str, Any]:
        """The exported config as timm reads it."""
        config, timm_says = network.config, (plain or network.backbone).pretrained_cfg
        pretrained_cfg = {
            "input_size": [3, *config.input_size],
            "fixed_input_size": "img_size" in config.kwargs,
            "interpolation": "bicubic",
            "crop_pct": 1.0,
            "crop_mode": "squash" if as_pixels(dataset.samples).resize == "squash" else "center",
            "mean": list(config.mean),
            "std": list(config.std),
            "num_classes": len(dataset.classes),
            "label_names": list(dataset.classes),
            "classifier": timm_says.get("classifier"),
            "first_conv": timm_says.get("first_conv"),
        }
        return {
            "architecture": config.architecture.split(".")[0],
            "num_features": (plain or network.backbone).num_features,
            "model_args": config.kwargs,
            "pretrained_cfg": pretrained_cfg,
        }


@cache
def architectures() -> list[str]:
    """Names of timm's models, from its source text: importing timm would load torch and take seconds."""
    package = importlib.util.find_spec("timm")
    assert package is not None
    assert package.origin is not None
    found: list[str] = []
    for path in sorted((Path(package.origin).parent / "models").glob("*.py")):
        found += re.findall(r"^@register_model\s+def (\w+)\(", path.read_text(encoding="utf-8"), re.MULTILINE)
    return found


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
    from torch import Tensor

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
