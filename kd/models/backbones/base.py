"""What a backbone is: what it makes of a batch, and how it is built, prepared for, started and exported.

All else knows a vector and maps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from kd.common.errors import UserError
from kd.common.registry import Registry
from kd.models.spec import Level, ModelSpec, NetworkConfig

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kd.data.modalities.base import Modality
    from kd.data.packed import DatasetInfo
    from kd.models.network import Network


class Backbone:
    """One kind of backbone. Its module itself is plain: this says how it is used.

    Each file of this folder defines one subclass, which is called `Kind` and is made without arguments. Importing one
    is cheap: torch is imported inside its methods.
    """

    MODALITY: ClassVar[str] = "image"
    """What it takes batches of."""
    WEIGHTS_OF: ClassVar[tuple[str, ...]] = ()
    """Backbones whose stored weights it may begin with, where names and shapes do not tell that."""

    def problems(self, model: ModelSpec) -> Iterator[str]:  # noqa: ARG002
        """Errors of the config, each beginning with the wrong key, found without building anything."""
        return iter(())

    def misfit(self, own: Modality, seen: Modality) -> str:  # noqa: ARG002
        """Why a network that is made for samples of one dataset cannot take those of another; empty: it can."""
        return ""

    def configure(self, model: ModelSpec, dataset: DatasetInfo) -> dict[str, Any]:
        """The fields `kwargs`, `input_size`, `mean`, `std` and, if it has any, `options` of a network's description.

        The input has shape and statistics of the dataset, unless the model or its weights say otherwise.
        """
        raise NotImplementedError

    def create(self, config: NetworkConfig) -> nn.Module:
        """The module without a classifier, with its own initialisation."""
        raise NotImplementedError

    def width(self, module: nn.Module) -> tuple[int, int]:
        """Width of the pooled features, and channels of the map L2."""
        raise NotImplementedError

    def forward(self, module: nn.Module, inputs: Tensor, levels: Sequence[Level]) -> tuple[Tensor, dict[str, Tensor]]:
        """Pooled features (B, D) of a prepared batch, and maps (B, C, h, w) of some of the levels L2, L3, L4.

        Raises:
            UserError: the module has no such level.
        """
        raise NotImplementedError

    def resize(self, inputs: Tensor, config: NetworkConfig) -> Tensor:  # noqa: ARG002
        """A batch in 0..1 at the size that the module takes."""
        return inputs

    def example(self, config: NetworkConfig) -> Tensor:
        """A batch of one sample of zeros, on the CPU or the meta device."""
        raise NotImplementedError

    def start(self, network: Network, model: ModelSpec, pretrained: Path | None) -> bool:  # noqa: ARG002
        """Give a new network the weights that the model asks for; whether its classifiers have them, too.

        Raises:
            UserError: the weights cannot be had or do not fit.
        """
        if model.weights != "scratch":
            raise UserError(f"models: backbone {model.backbone} has no weights but scratch; leave out `weights`")
        return False

    def fold(self, network: Network, head: str) -> nn.Module | None:  # noqa: ARG002
        """The network with one head as a plain module of its library; None: there is none.

        Of prepared batches, `forward` gives its logits (B, classes) in the place of vectors.

        Raises:
            UserError: it should be there, but cannot be made.
        """
        return None

    def describe(self, network: Network, plain: nn.Module | None, dataset: DatasetInfo) -> dict[str, Any]:  # noqa: ARG002
        """Entries of an exported student's config.json besides classes and samples."""
        return {"architecture": network.config.architecture, "backbone": network.config.backbone}


BACKBONES = Registry(
    "kd.models.backbones", "kd.backbones", {"Kind": Backbone}, others=("base", "timm_weights", "action_weights")
)


def load_backbone(name: str) -> Backbone:
    """The backbone of a name that a config has."""
    return cast("Backbone", BACKBONES.load(name).Kind())


def stored_backbone(name: str) -> Backbone:
    """The backbone of a name that a file has; for errors see `Registry.stored`."""
    return cast("Backbone", BACKBONES.stored(name).Kind())
