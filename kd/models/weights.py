"""Networks in and out: new, stored, exported.

`network.safetensors` has the weights of a network, and `network.json` all that is needed to build it again; of a joint
teacher they are called `joint`. A student is exported, too: `model.safetensors` and `config.json` are a model of timm
that `timm.create_model("local-dir:DIRECTORY", pretrained=True)` loads without this program; `config.json` also says
what the classes are called and how files become samples. Where the network is no plain model of timm, as with a label
encoder, `config.json` is there alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from kd.artefacts.files import write_text
from kd.common.errors import UserError, first_mistake
from kd.data.modalities.image import Samples as Images
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


def create_network(
    architecture: str,
    classes: int | Sequence[str],
    *,
    image_size: int | tuple[int, int] = 224,
    mean: tuple[float, float, float] = IMAGENET_DEFAULT_MEAN,
    std: tuple[float, float, float] = IMAGENET_DEFAULT_STD,
    dataset: str = "data",
    **model: Any,
) -> Network:
    """A network as the workflow trains them, with random weights from torch's global generator or those of a file.

    It takes batches (B, 3, H, W) in 0..1 of any size, resizes and normalises them itself, and gives `Outputs`; as a
    student or a teacher wrap it in `Tapped`.

    Args:
        architecture: name of a timm model.
        classes: their names, or their number.
        image_size: that it resizes to: an edge, or height and width, in pixels.
        mean: of each RGB channel in 0..1, which it normalises with.
        std: as `mean`.
        dataset: name of its head.
        model: further options of a model in the config, such as `latent_dim`, `backbone`, `kwargs`, or
            `weights={"path": FILE}`.

    Raises:
        UserError: there is no such architecture or option, or the weights do not fit.

    Examples:
        >>> import kd, torch
        >>> network = kd.create_network("test_resnet", ["cat", "dog"], image_size=32)
        >>> network(torch.rand(4, 3, 50, 40)).logits["data"].shape
        torch.Size([4, 2])
    """
    try:
        spec = ModelSpec(architecture=architecture, **model)
        samples = Images(image_size=image_size)
    except ValidationError as error:
        raise UserError(f"network: {': '.join(first_mistake(error))}") from error
    if spec.weights == "pretrained":
        raise UserError("weights: pretrained, which the workflow fetches; take timm.create_model(..., pretrained=True)")
    problems = [*load_backbone(spec.backbone).problems(spec)]
    if problems:
        raise UserError(problems[0])
    names = tuple(map(str, range(classes))) if isinstance(classes, int) else tuple(classes)
    if not names or isinstance(classes, str) or len(set(names)) < len(names):
        raise UserError(f"classes: {classes!r}, expected a list of names, each once, or their number")
    return new_network(spec, [DatasetInfo(dataset, names, samples, mean, std, {})])


def save_network(network: Network, directory: Path | str) -> None:
    """Store a network so that `load_network` builds it again.

    Examples:
        >>> import kd, pathlib, tempfile
        >>> directory = pathlib.Path(tempfile.mkdtemp())
        >>> kd.save_network(kd.create_network("test_resnet", 5), directory / "mine")
        >>> sorted(path.name for path in (directory / "mine").iterdir())
        ['network.json', 'network.safetensors']
    """
    save_stored(network, network.config, Path(directory), NETWORK)


def load_network(directory: Path | str) -> Network:
    """The network stored in a directory: by `save_network`, or that of a teacher or student of the workflow.

    Raises:
        UserError: one of its files is missing, damaged or not what this program stores.

    Examples:
        >>> import kd, pathlib, tempfile
        >>> directory = pathlib.Path(tempfile.mkdtemp())
        >>> kd.save_network(kd.create_network("test_resnet", 5), directory)
        >>> kd.load_network(directory).config.heads
        {'data': 5}
    """
    return load_stored(Path(directory), NETWORK, NetworkConfig, Network)


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
