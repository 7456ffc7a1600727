"""Weights in and out: brought checkpoints, stored networks, export to plain timm."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import timm
import torch
from annotated_types import Gt
from pydantic import BaseModel
from safetensors.torch import save_file
from torch import Tensor, nn

from kd.data.options import WHITE, Colour, Resize, Task
from kd.data.packed import DatasetInfo
from kd.jobs.errors import UserError
from kd.jobs.files import replacing, write_text
from kd.models.checkpoints import (
    check_finite,
    find_by_name,
    find_by_order,
    load_stored,
    load_strictly,
    read_options,
    read_tensors,
)
from kd.models.finite import first_not_finite
from kd.models.network import Network, create_backbone
from kd.models.spec import Checkpoint, ModelSpec, NetworkConfig

log = logging.getLogger("kd")

CONFIG, WEIGHTS = "network.json", "network.safetensors"
PRETRAINED = "pretrained.safetensors"
EXPORT_CONFIG, EXPORT_WEIGHTS = "config.json", "model.safetensors"


def new_network(
    model: ModelSpec,
    datasets: Sequence[DatasetInfo],
    *,
    statistics: DatasetInfo,
    pretrained: Path | None = None,
    trains: bool = True,
) -> Network:
    """A network with one head per dataset, its backbone initialised as the model says.

    Args:
        model: what is wanted.
        datasets: one head for each.
        statistics: dataset whose image size and training statistics the input has, unless the model says
            otherwise; brought weights keep the statistics they were trained with.
        pretrained: directory of the weights that `fetch_pretrained` got, where the model wants them.
        trains: whether it will be trained; if not, the brought weights must hold a classifier.

    Raises:
        UserError: the weights cannot be had or do not fit.
    """
    kwargs = dict(model.kwargs)
    pretrained_cfg = pretrained_cfg_of(model.architecture)
    input_size = model.input_size or statistics.image_size
    if pretrained_cfg is not None and pretrained_cfg.fixed_input_size:
        kwargs.setdefault("img_size", input_size)
    mean, std = _input_statistics(model, statistics)
    config = NetworkConfig(
        architecture=model.architecture,
        kwargs=kwargs,
        latent_dim=model.latent_dim,
        label_encoder=model.label_encoder,
        input_size=input_size,
        mean=mean,
        std=std,
        heads={dataset.name: len(dataset.classes) for dataset in datasets},
    )
    network = Network(config)
    complete = False
    if model.weights == "pretrained":
        assert pretrained is not None
        complete = _take(_pretrained(config, pretrained), network)
    elif isinstance(model.weights, Checkpoint):
        complete, network.notes = load_checkpoint(network, model.weights)
    if not trains and not complete:
        behind = "this label_encoder" if model.label_encoder else f"a latent layer of width {model.latent_dim}"
        raise UserError(
            f"models: the weights of {model.architecture} hold no classifier for {config.heads} (dataset: classes)"
            f" behind {behind}; give the teacher a recipe, to train it"
        )
    return network


def pretrained_cfg_of(architecture: str) -> Any:
    """What timm records of an architecture with its pretraining tag, or None."""
    try:
        return timm.get_pretrained_cfg(architecture)
    except RuntimeError as error:
        raise UserError(f"models: architecture {architecture}: {error}") from error


def check_pretrained(architecture: str) -> Any:
    """What timm records of an architecture that it has pretrained weights of.

    Raises:
        UserError: it has none.
    """
    found = pretrained_cfg_of(architecture)
    if found is None or not (found.hf_hub_id or found.url):
        raise UserError(
            f"models: {architecture}: timm has no pretrained weights of it; expected `weights: scratch` or a checkpoint"
        )
    return found


def _input_statistics(model: ModelSpec, statistics: DatasetInfo) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std: the model's, else those the brought weights were trained with, else the dataset's."""
    mean, std = statistics.mean, statistics.std
    pretrained_cfg = pretrained_cfg_of(model.architecture)
    if model.weights != "scratch" and pretrained_cfg is not None:
        mean, std = pretrained_cfg.mean, pretrained_cfg.std
    stored = _stored_config(model.weights.path) if isinstance(model.weights, Checkpoint) else None
    if stored is not None:
        mean, std = stored.mean, stored.std
    return model.mean or mean, model.std or std


def _stored_config(path: Path) -> NetworkConfig | None:
    """What stands beside the weights of a network that this project stored."""
    config = path.parent / CONFIG
    return read_options(config, NetworkConfig) if config.is_file() else None


def _pretrained(config: NetworkConfig, directory: Path) -> Any:
    """The architecture with fetched weights and their classifier; timm fits them to other arguments, such as sizes."""
    try:
        return timm.create_model(
            config.architecture,
            pretrained=True,
            pretrained_cfg_overlay={"file": str(directory / PRETRAINED)},
            **config.kwargs,
        )
    except (RuntimeError, OSError) as error:
        raise UserError(
            f"models: the pretrained weights of {config.architecture} do not fit {config.kwargs}: {error}"
        ) from error


def _take(whole: Any, network: Network) -> bool:
    """Take a timm model's backbone and, where its classes and width fit, its classifier; whether they did."""
    wanted = network.backbone.state_dict()
    network.backbone.load_state_dict({name: value for name, value in whole.state_dict().items() if name in wanted})
    head = whole.get_classifier()
    heads = [network.heads[name] for name in network.heads.datasets()]
    fits = [isinstance(head, nn.Linear) and each.weight.shape == head.weight.shape for each in heads]
    for each, fit in zip(heads, fits, strict=True):
        if fit:
            each.load_state_dict(head.state_dict())
    return bool(heads) and all(fits) and isinstance(network.latent, nn.Identity)


def load_checkpoint(network: Network, checkpoint: Checkpoint) -> tuple[bool, dict[str, int]]:
    """Load brought weights into the backbone; a classifier in the file is used if its classes fit.

    Returns:
        Whether all came along: every head, and the latent layer or label encoder before it. And what was chosen among
        the weights in the file, in words, and how often.

    Raises:
        UserError: the file is missing, is not a file of tensors, does not fit the architecture, or holds values that
            are not finite.
    """
    path = checkpoint.path
    groups = read_tensors(path)
    if all(name.split(".")[0] in ("backbone", "latent", "heads", "labels") for name in groups.get("", ("",))):
        check_finite(groups[""], path)
        return _take_own(groups[""], network, path), {}
    by_order = checkpoint.match == "order"
    found = find_by_order(groups, path) if by_order else find_by_name(groups, network.backbone.state_dict(), path)
    for note in found.notes:
        log.info("%s", note)
    classes = _classes_in(found.tensors, network.config.architecture, checkpoint.match)
    whole = create_backbone(network.config, classes=classes)
    tensors = _by_order(found.tensors, whole, path) if by_order else found.tensors
    check_finite(tensors, path)
    load_strictly(whole, tensors, path)
    return _take(whole, network), found.notes


def _take_own(tensors: dict[str, Tensor], network: Network, path: Path) -> bool:
    """Take a network that this project stored: all before the heads, and the heads of the same datasets.

    The backbone alone where the label encoders differ: then heads do not mean the same.
    """
    wanted, stored = network.state_dict(), _stored_config(path)

    def fits(part: str) -> bool:
        theirs, own = (
            {name: each.shape for name, each in of.items() if name.startswith(part)} for of in (tensors, wanted)
        )
        return theirs == own

    heads = [f"{kind}.by_dataset.on_{dataset}." for kind in ("heads", "labels") for dataset in network.config.heads]
    # Shapes do not tell how many heads attention has.
    alike = fits("labels.encoder.") and (stored is None or _attention_heads(stored) == _attention_heads(network.config))
    taken = ("backbone.", *(("latent.", "labels.encoder.", *filter(fits, heads)) if alike else ()))
    brought = {name: value for name, value in tensors.items() if name.startswith(taken)}
    kept = {name: value for name, value in wanted.items() if not name.startswith(taken)}
    load_strictly(network, kept | brought, path)
    return alike and all(map(fits, heads))


def _attention_heads(config: NetworkConfig) -> int | None:
    return config.label_encoder.heads if config.label_encoder else None


def _classes_in(tensors: dict[str, Tensor], architecture: str, match: str) -> int:
    """Classes of the classifier in a checkpoint; 0: it has none."""
    if match == "order":
        weight, bias = list(tensors.values())[-2:] if len(tensors) > 1 else (torch.empty(0), torch.empty(0))
    else:
        pretrained_cfg = pretrained_cfg_of(architecture)
        classifier = pretrained_cfg.classifier if pretrained_cfg else None
        weight, bias = (tensors.get(f"{classifier}.{name}", torch.empty(0)) for name in ("weight", "bias"))
    return len(weight) if weight.ndim == 2 and tuple(bias.shape) == (len(weight),) else 0


def _by_order(tensors: dict[str, Tensor], module: nn.Module, path: Path) -> dict[str, Tensor]:
    """Rename tensors after the module's own, which must have the same shapes in the same order."""
    wanted = module.state_dict()
    shapes = [tuple(value.shape) for value in wanted.values()]
    found = [tuple(value.shape) for value in tensors.values()]
    if shapes != found:
        raise UserError(f"{path}: its {len(found)} tensors do not have the shapes of {type(module).__name__} in order")
    return dict(zip(wanted, tensors.values(), strict=True))


def save_network(network: Network, directory: Path) -> None:
    """Store a network so that `load_network` builds it again."""
    write_text(directory / CONFIG, network.config.model_dump_json(indent=1))
    save_tensors(directory / WEIGHTS, network.state_dict())


def load_network(directory: Path) -> Network:
    """The network stored in a directory.

    Raises:
        UserError: one of its files is missing, damaged or not what this program stores.
    """
    return load_stored(directory / CONFIG, directory / WEIGHTS, NetworkConfig, Network)


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a .safetensors file, wholly or not at all, and only if all is finite."""
    bad = first_not_finite(tensors)
    if bad is not None:
        raise UserError(f"{path}: {bad} is not finite, so nothing is stored")
    with replacing(path) as partial:
        save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, partial)


def fold(network: Network, head: str) -> nn.Module:
    """The same function as a plain timm model: the latent layer is linear, so it merges into the classifier.

    Takes normalised images; returns (B, classes) logits of one head.

    Raises:
        UserError: the timm model has no single linear classifier.
    """
    linear = network.heads[head]
    weight, bias = linear.weight.double(), linear.bias.double()
    if isinstance(network.latent, nn.Linear):
        bias = bias + weight @ network.latent.bias.double()
        weight = weight @ network.latent.weight.double()
    plain = create_backbone(network.config, classes=linear.out_features)
    classifier = plain.get_classifier()
    if not isinstance(classifier, nn.Linear) or classifier.weight.shape != weight.shape:
        raise UserError(f"models: {network.config.architecture} has no single linear classifier, cannot be exported")
    missing, unexpected = plain.load_state_dict(network.backbone.state_dict(), strict=False)
    if len(missing) > len(classifier.state_dict()) or unexpected:
        raise UserError(f"models: {network.config.architecture} changes with its number of classes, cannot be exported")
    with torch.no_grad():
        classifier.weight.copy_(weight)
        classifier.bias.copy_(bias)
    folded: nn.Module = plain.to(network.mean.device)
    return folded


class Exported(nn.Module):
    """A student as it leaves, on (B, 3, H, W) images in 0..1: (B, classes) logits of one head.

    A plain timm model; with a label-wise encoder, which timm does not have, the network itself.

    Raises:
        UserError: the timm model has no single linear classifier.
    """

    def __init__(self, network: Network, dataset: str) -> None:
        super().__init__()
        self.network, self.dataset = network, dataset
        self.plain = fold(network, dataset) if network.labels is None else None

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the head."""
        if self.plain is None:
            labels: Tensor = self.network(images).logits[self.dataset]
            return labels
        logits: Tensor = self.plain(self.network.normalise(images))
        return logits


class ExportedStudent(BaseModel):
    """What `predict` reads of config.json: how pictures become those of the dataset, and what the logits mean."""

    label_names: tuple[str, ...]
    task: Task
    image_size: tuple[Annotated[int, Gt(0)], Annotated[int, Gt(0)]]
    """Height and width that the pictures of the dataset are stored with."""
    resize: Resize
    """How they were brought to that."""
    ground: Colour = WHITE
    """Red, green and blue that transparent images are laid on."""


def export_student(network: Network, dataset: DatasetInfo, directory: Path) -> None:
    """Write config.json and model.safetensors, loadable by `timm.create_model("local-dir:DIRECTORY")`.

    With a label-wise encoder config.json alone, which has the names of the classes: the rest is what `save_network`
    stored.
    """
    plain = Exported(network, dataset.name).plain
    write_text(directory / EXPORT_CONFIG, export_config(network.config, plain or network.backbone, dataset))
    if plain is not None:
        save_tensors(directory / EXPORT_WEIGHTS, plain.state_dict())


def export_config(config: NetworkConfig, plain: Any, dataset: DatasetInfo) -> str:
    """Text of timm's config.json for a folded network."""
    pretrained_cfg: dict[str, Any] = {
        "input_size": [3, *config.input_size],
        "fixed_input_size": "img_size" in config.kwargs,
        "interpolation": "bicubic",
        "crop_pct": 1.0,
        "crop_mode": "squash" if dataset.resize == "squash" else "center",
        "mean": list(config.mean),
        "std": list(config.std),
        "num_classes": len(dataset.classes),
        "label_names": list(dataset.classes),
        "classifier": plain.pretrained_cfg.get("classifier"),
        "first_conv": plain.pretrained_cfg.get("first_conv"),
    }
    exported = {
        "architecture": config.architecture.split(".")[0],
        "task": dataset.task,
        "ground": list(dataset.ground),
        "image_size": list(dataset.image_size),
        "resize": dataset.resize,
        "num_classes": len(dataset.classes),
        "num_features": plain.num_features,
        "label_names": list(dataset.classes),
        "model_args": config.kwargs,
        "pretrained_cfg": pretrained_cfg,
    }
    return json.dumps(exported, indent=1)
