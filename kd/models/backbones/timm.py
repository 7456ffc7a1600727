"""Image networks of timm: maps of the last three stages are L2, L3 and L4, the pooled features the vector."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd.common.errors import UserError, did_you_mean
from kd.data.modalities.image import as_images
from kd.models.backbones.base import Backbone
from kd.models.spec import LEVELS, Checkpoint, Level, ModelSpec, NetworkConfig

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kd.data.packed import DatasetInfo
    from kd.models.network import Network

MAX_STAGES = 8


class Kind(Backbone):
    """Any architecture that timm builds and taps."""

    @classmethod
    def problems(cls, model: ModelSpec) -> Iterator[str]:
        """The architecture is one of timm's."""
        name = model.architecture.split(".")[0]
        if name not in architectures():
            what = "is not the name of a known timm model"
            hint = did_you_mean(name, architectures())
            yield f"architecture: {name!r} {what}; {hint}{len(architectures())} are known"

    @classmethod
    def configure(cls, model: ModelSpec, dataset: DatasetInfo) -> dict[str, Any]:
        """Images at the size of the dataset, with the statistics of the weights or else of the dataset."""
        from kd.models.backbones.timm_weights import input_statistics, pretrained_cfg_of

        kwargs = dict(model.kwargs)
        pretrained_cfg = pretrained_cfg_of(model.architecture)
        input_size = model.input_size or as_images(dataset.samples).size
        if pretrained_cfg is not None and pretrained_cfg.fixed_input_size:
            kwargs.setdefault("img_size", input_size)
        mean, std = input_statistics(model, dataset)
        return {"kwargs": kwargs, "input_size": input_size, "mean": mean, "std": std}

    @classmethod
    def create(cls, config: NetworkConfig) -> nn.Module:
        """The module of `create_backbone`."""
        import torch

        from kd.models.backbones.timm_weights import create_backbone

        made: nn.Module = create_backbone(config)
        return made.to(memory_format=torch.channels_last)  # convolutions are faster so, on CPUs and on GPUs

    @classmethod
    def width(cls, module: Any) -> tuple[int, int]:
        """Some heads widen the pooled features before the classifier."""
        features = int(module.num_features)
        return getattr(module, "head_hidden_size", None) or features, features

    @classmethod
    def forward(cls, module: Any, inputs: Tensor, levels: Sequence[Level]) -> tuple[Tensor, dict[str, Tensor]]:
        """Pooled vector and maps, by timm's `forward_intermediates` if maps are asked for."""
        if not levels:
            return module(inputs), {}
        indices = {tap_index(module, level): level for level in levels}
        # Not to stop early: the last of the taps may not be the end, which the vector comes from.
        final, taps = module.forward_intermediates(inputs, indices=sorted(indices), stop_early=False, output_fmt="NCHW")
        maps: dict[str, Tensor] = {indices[index]: each for index, each in zip(sorted(indices), taps, strict=True)}
        if "L2" in maps:
            maps["L2"] = as_map(module, final, maps["L2"])
        return module.forward_head(final, pre_logits=True), maps

    @classmethod
    def resize(cls, inputs: Tensor, config: NetworkConfig) -> Tensor:
        """(B, 3, H, W), bicubic."""
        from kd.data.views import resize_images

        return resize_images(inputs, config.input_size)

    @classmethod
    def example(cls, config: NetworkConfig) -> Tensor:
        """(1, 3, H, W)."""
        import torch

        return torch.zeros(1, 3, *config.input_size)

    @classmethod
    def start(cls, network: Network, model: ModelSpec, pretrained: Path | None) -> bool:
        """Load timm's pretrained weights, or a checkpoint."""
        from kd.models.backbones.timm_weights import load_checkpoint, take_pretrained

        if model.weights == "pretrained":
            assert pretrained is not None
            return take_pretrained(network, pretrained)
        if isinstance(model.weights, Checkpoint):
            complete, network.notes = load_checkpoint(network, model.weights)
            return complete
        return False

    @classmethod
    def fold(cls, network: Network, head: str) -> nn.Module | None:
        """A plain timm model; with a label-wise encoder, which timm does not have, none."""
        from kd.models.backbones.timm_weights import fold

        return None if network.labels is not None else fold(network, head)

    @classmethod
    def describe(cls, network: Network, plain: Any, dataset: DatasetInfo) -> dict[str, Any]:
        """The exported config as timm reads it."""
        from kd.models.backbones.timm_weights import timm_config

        return timm_config(network.config, plain or network.backbone, dataset)


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
