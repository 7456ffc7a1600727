"""Networks in and out: new, stored, exported."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from torch import Tensor, nn

from kd.artefacts.files import write_text
from kd.common.errors import UserError
from kd.data.options import Task
from kd.data.packed import DatasetInfo
from kd.models.backbones.base import load_backbone
from kd.models.network import Network
from kd.models.spec import ModelSpec, NetworkConfig
from kd.models.weight_files import NETWORK, load_stored, save_stored, save_tensors

EXPORT_CONFIG, EXPORT_WEIGHTS = "config.json", "model.safetensors"


def new_network(
    model: ModelSpec,
    datasets: Sequence[DatasetInfo],
    *,
    pretrained: Path | None = None,
    trains: bool = True,
) -> Network:
    """A network with one head per dataset, its backbone initialised as the model says.

    Args:
        model: what is wanted.
        datasets: one head for each. The input has image size and training statistics of the first, unless the model
            says otherwise; given weights keep the statistics they were trained with.
        pretrained: directory of the weights that `fetch_pretrained` got, where the model wants them.
        trains: whether it will be trained; if not, the given weights must hold a classifier.

    Raises:
        UserError: the weights cannot be had or do not fit.
    """
    kind = load_backbone(model.backbone)
    config = NetworkConfig(
        backbone=model.backbone,
        architecture=model.architecture,
        latent_dim=model.latent_dim,
        label_encoder=model.label_encoder,
        heads={dataset.name: len(dataset.classes) for dataset in datasets},
        **kind.configure(model, datasets[0]),
    )
    network = Network(config)
    complete = kind.start(network, model, pretrained)
    if not trains and not complete:
        behind = "this label_encoder" if model.label_encoder else f"a latent layer of width {model.latent_dim}"
        raise UserError(
            f"models: the weights of {model.architecture} hold no classifier for {config.heads} (dataset: classes)"
            f" behind {behind}; give the teacher a recipe, to train it"
        )
    return network


def save_network(network: Network, directory: Path) -> None:
    """Store a network so that `load_network` builds it again."""
    save_stored(network, network.config, directory, NETWORK)


def load_network(directory: Path) -> Network:
    """The network stored in a directory.

    Raises:
        UserError: one of its files is missing, damaged or not what this program stores.
    """
    return load_stored(directory, NETWORK, NetworkConfig, Network)


class Exported(nn.Module):
    """A student as it leaves, on a batch of samples as backbones take them: (B, classes) logits of one head.

    The plain module that the backbone folds the network into; where there is none, as with a label-wise encoder, the
    network itself.

    Raises:
        UserError: it cannot be folded, such as a timm model without a single linear classifier.
    """

    def __init__(self, network: Network, dataset: str) -> None:
        super().__init__()
        self.network, self.dataset = network, dataset
        self.plain = network.kind.fold(network, dataset)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits of the head."""
        if self.plain is None:
            logits: Tensor = self.network(inputs).logits[self.dataset]
        else:
            logits, _ = self.network.kind.forward(self.plain, self.network.normalise(inputs), ())
        return logits


class ExportedStudent(BaseModel):
    """The part of config.json that `predict` reads: how a file becomes a sample, and what the logits mean."""

    label_names: tuple[str, ...]
    task: Task
    modality: str
    sample: dict[str, Any]
    """How samples of the dataset are stored: options of the modality."""


def export_student(network: Network, dataset: DatasetInfo, directory: Path) -> None:
    """Write config.json and model.safetensors, loadable by `timm.create_model("local-dir:DIRECTORY")`.

    Where the network is no plain model of its library, as with a label-wise encoder, config.json alone, which has the
    names of the classes: the rest is what `save_network` stored.
    """
    plain = Exported(network, dataset.name).plain
    described = {
        "task": dataset.task,
        "modality": dataset.samples.name(),
        "sample": dataset.samples.model_dump(mode="json"),
        "num_classes": len(dataset.classes),
        "label_names": list(dataset.classes),
    }
    text = json.dumps(described | network.kind.describe(network, plain, dataset), indent=1)
    write_text(directory / EXPORT_CONFIG, text)
    if plain is not None:
        save_tensors(directory / EXPORT_WEIGHTS, plain.state_dict())
