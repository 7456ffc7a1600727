"""Clips by an image network of timm: on each frame alone, then the mean over time of its vector and of its maps.

Wang et al., "Temporal segment networks: towards good practices for deep action recognition", ECCV 2016, with the mean
for a consensus. Since classifiers are linear, the logits of the mean vector are the mean of the frames' logits.

`architecture` is any of timm. `kwargs` are those of the architecture, and `segments`: how many frames of a view the
network looks at, a divisor of the dataset's `segments` (default: all of them). The views' frames are cut into so many
equal parts, and the middle frame of each is taken; with 1 it is that of the middle segment alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Gt
from pydantic import ValidationError

from kd.common.errors import UserError, first_mistake
from kd.common.options import BaseOptions
from kd.models.backbones import timm as images
from kd.models.spec import Level, ModelSpec, NetworkConfig

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kd.data.modalities.base import Modality
    from kd.data.packed import DatasetInfo
    from kd.models.network import Network

STRIDE = "frame_stride"


class FrameOptions(BaseOptions):
    """Which frames of clips a network looks at. A clip has one or more views, one after another."""

    segments: Annotated[int, Gt(0)]
    """Frames of a view that it looks at."""
    frame_stride: Annotated[int, Gt(0)] = 1
    """Frames of a view for each of these, which is the one in their middle."""

    @property
    def view(self) -> int:
        """Frames of a view."""
        return self.segments * self.frame_stride


class Kind(images.Kind):
    """Any architecture of the backbone `timm`; the key `segments` of `kwargs` belongs to this backbone."""

    MODALITY = "clip"
    OPTIONS: ClassVar[type[FrameOptions]] = FrameOptions

    def problems(self, model: ModelSpec) -> Iterator[str]:
        """As of images; and the options of frames are known."""
        yield from super().problems(model)
        try:
            self._options(model.kwargs, 2)
        except UserError as error:
            yield str(error).removeprefix("models.")

    def misfit(self, own: Modality, seen: Modality) -> str:
        """Views have equally many frames."""
        made_for, given = (getattr(each, "segments", None) for each in (own, seen))
        return "" if given == made_for else f"is for clips of {made_for} segments, not of {given}"

    def configure(self, model: ModelSpec, dataset: DatasetInfo) -> dict[str, Any]:
        """As of images; segments are those of the dataset, unless the model says how many of them."""
        whole: int = dataset.samples.segments  # type: ignore[attr-defined]  # every modality that this takes has them
        kwargs, options = self._options(model.kwargs, whole)
        if whole % options.segments:
            raise UserError(
                f"models.kwargs.segments: {options.segments}, expected a divisor of the {whole} segments of dataset"
                f" {dataset.name!r}"
            )
        configured = super().configure(model.model_copy(update={"kwargs": kwargs}), dataset)
        return configured | {"options": options.model_dump() | {STRIDE: whole // options.segments}}

    def _options(self, kwargs: dict[str, Any], segments: int) -> tuple[dict[str, Any], FrameOptions]:
        """The `kwargs` that are timm's, and the others as options; without any, all segments are looked at."""
        known = self.OPTIONS.model_fields.keys() - {STRIDE}
        own = {"segments": segments} | {name: kwargs[name] for name in kwargs.keys() & known}
        try:
            options = self.OPTIONS.model_validate(own)
        except ValidationError as error:
            name, wrong = first_mistake(error)
            raise UserError(f"models.kwargs.{name}: given {own.get(name)!r}: {wrong}") from error
        return {name: value for name, value in kwargs.items() if name not in known}, options

    def create(self, config: NetworkConfig) -> nn.Module:
        """The network of timm, which knows which frames it looks at."""
        return self.over_time(super().create(config), self.OPTIONS.model_validate(config.options))

    def over_time(self, module: Any, options: FrameOptions) -> nn.Module:
        """A network of timm made one of clips, without a change of names in its state_dict."""
        module.frames = options
        changed: nn.Module = module
        return changed

    def forward(self, module: Any, inputs: Tensor, levels: Sequence[Level]) -> tuple[Tensor, dict[str, Tensor]]:
        """Means over the frames of (B, T, 3, h, w)."""
        frames = frames_of(module, inputs)
        vectors, maps = super().forward(module, frames.flatten(0, 1), levels)
        return _mean(vectors, frames), {level: _mean(each, frames) for level, each in maps.items()}

    def resize(self, inputs: Tensor, config: NetworkConfig) -> Tensor:
        """(B, T, 3, H, W), each frame as an image."""
        frames = super().resize(inputs.flatten(0, 1), config)
        return frames.reshape(*inputs.shape[:2], *frames.shape[1:])

    def example(self, config: NetworkConfig) -> Tensor:
        """(1, T, 3, H, W) of one view."""
        frames = self.OPTIONS.model_validate(config.options).view
        return super().example(config).expand(frames, -1, -1, -1)[None]

    def fold(self, network: Network, head: str) -> nn.Module | None:
        """A plain timm model of frames."""
        plain = super().fold(network, head)
        return None if plain is None else self.over_time(plain, network.backbone.frames)

    def describe(self, network: Network, plain: Any, dataset: DatasetInfo) -> dict[str, Any]:
        """The exported config as timm reads it, and what to do over time."""
        described = super().describe(network, plain, dataset)
        return described | {"backbone": network.config.backbone} | network.config.options


def frames_of(module: Any, clips: Tensor) -> Tensor:
    """The frames that a network looks at: (B, T, 3, h, w) to (B, t, 3, h, w).

    Raises:
        UserError: T is not a multiple of the frames of a view.
    """
    options: FrameOptions = module.frames
    if clips.shape[1] % options.view:
        raise UserError(
            f"datasets: clips of {clips.shape[1]} frames, but the network takes {options.view} in a view; give all"
            " datasets that it looks at as many `segments`"
        )
    return clips[:, options.frame_stride // 2 :: options.frame_stride]


def _mean(values: Tensor, frames: Tensor) -> Tensor:
    """(B * t, ...) to (B, ...)."""
    return values.reshape(*frames.shape[:2], *values.shape[1:]).mean(dim=1)
