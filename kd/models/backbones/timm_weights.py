"""Weights of timm's networks: pretrained ones fetched and taken, and custom checkpoints."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import timm
import torch
from torch import Tensor, nn

from kd.common.errors import UserError
from kd.models.backbones.action_weights import in_names_of_timm
from kd.models.hub import SECONDS, hub_file, patience, reason, try_network
from kd.models.spec import Checkpoint, NetworkConfig
from kd.models.weight_files import (
    NETWORK,
    check_finite,
    find_by_name,
    find_by_order,
    load_strictly,
    read_options,
    read_tensors,
    save_tensors,
)

if TYPE_CHECKING:
    from kd.models.network import Network

PRETRAINED = "pretrained.safetensors"
log = logging.getLogger("kd")


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


def pretrained_cfg_of(architecture: str) -> Any:
    """The record that timm has of an architecture with its pretraining tag, or None."""
    try:
        return timm.get_pretrained_cfg(architecture)
    except RuntimeError as error:
        raise UserError(f"models: architecture {architecture}: {error}") from error


def check_pretrained(architecture: str) -> Any:
    """The record that timm has of an architecture, which must have pretrained weights.

    Raises:
        UserError: it has none.
    """
    found = pretrained_cfg_of(architecture)
    if found is None or not (found.hf_hub_id or found.url):
        raise UserError(
            f"models: {architecture}: timm has no pretrained weights of it; expected `weights: scratch` or a checkpoint"
        )
    return found


def fetch_pretrained(architecture: str, directory: Path) -> None:
    """Store timm's pretrained weights of an architecture, with the classifier that they have.

    Raises:
        UserError: timm has none, or they cannot be had from where they lie, or are damaged.
    """
    pretrained_cfg = check_pretrained(architecture)
    create = partial(timm.create_model, architecture, pretrained=True)
    try:
        if pretrained_cfg.hf_hub_id:
            whole = _from_hub(pretrained_cfg.hf_hub_id, create)
        else:
            with patience(SECONDS):
                whole = try_network(pretrained_cfg.url, create)
    except UserError as error:
        raise UserError(f"models: pretrained weights of {architecture}: {error}") from error
    save_tensors(directory / PRETRAINED, whole.state_dict())


def _from_hub(repository: str, create: Callable[..., Any]) -> Any:
    """A timm model with the weights of a repository of the hub."""
    path = hub_file(repository)
    try:
        return create(pretrained_cfg_overlay={"file": str(path)})
    except Exception as error:
        raise UserError(f"{path}: is no file of its weights ({reason(error)}); delete it and run again") from error


def stored_config(path: Path) -> NetworkConfig | None:
    """The config beside the weights of a network that this project stored."""
    config = path.parent / f"{NETWORK}.json"
    return read_options(config, NetworkConfig) if config.is_file() else None


def take_pretrained(network: Network, directory: Path) -> bool:
    """Take fetched weights; timm fits them to other arguments, such as sizes. Returns whether the classifier fits, too.

    Raises:
        UserError: they do not fit the architecture with its arguments.
    """
    config = network.config
    try:
        whole = timm.create_model(
            config.architecture,
            pretrained=True,
            pretrained_cfg_overlay={"file": str(directory / PRETRAINED)},
            **config.kwargs,
        )
    except (RuntimeError, OSError) as error:
        raise UserError(
            f"models: the pretrained weights of {config.architecture} do not fit {config.kwargs}: {error}"
        ) from error
    return _take(whole, network)


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


def load_checkpoint(network: Network, checkpoint: Checkpoint) -> bool:
    """Load given weights into the backbone; a classifier in the file is used if its classes fit.

    What was chosen among the weights in the file is said in the log and in the notes of the network.

    Returns:
        Whether all came along: every head, and the latent layer or label encoder before it.

    Raises:
        UserError: the file is missing, is not a file of tensors, does not fit the architecture, or holds values that
            are not finite, or is of a backbone that computes something else with them.
    """
    path = checkpoint.path
    groups, made_for = in_names_of_timm(read_tensors(path))
    stored = stored_config(path)
    theirs, ours = stored.backbone if stored else made_for, network.config.backbone
    if theirs is not None and theirs not in (ours, *network.kind.WEIGHTS_OF):
        raise UserError(
            f"{path}: holds weights of backbone {theirs}, with which {ours} computes something else, though their names"
            f" and shapes are the same; expected weights of {' or '.join(network.kind.WEIGHTS_OF)}"
        )
    if all(name.split(".")[0] in ("backbone", "latent", "heads", "labels") for name in groups.get("", ("",))):
        check_finite(groups[""], path)
        return _take_own(groups[""], network, path)
    by_order = checkpoint.match == "order"
    found = find_by_order(groups, path) if by_order else find_by_name(groups, network.backbone.state_dict(), path)
    tensors, network.notes = found
    for note in network.notes:
        log.info("%s", note)
    whole = create_backbone(network.config, classes=_classes_in(tensors, network.config.architecture, checkpoint.match))
    tensors = _by_order(tensors, whole, path) if by_order else tensors
    check_finite(tensors, path)
    load_strictly(whole, tensors, path)
    return _take(whole, network)


def _take_own(tensors: dict[str, Tensor], network: Network, path: Path) -> bool:
    """Take a network that this project stored: all before the heads, and the heads of the same datasets.

    The backbone alone where the label encoders differ: then heads do not mean the same.
    """
    wanted, stored = network.state_dict(), stored_config(path)

    def fits(part: str) -> bool:
        theirs, own = (
            {name: each.shape for name, each in of.items() if name.startswith(part)} for of in (tensors, wanted)
        )
        return theirs == own

    heads = [f"{kind}.by_dataset.on_{dataset}." for kind in ("heads", "labels") for dataset in network.config.heads]
    alike = fits("labels.encoder.")
    # Shapes do not tell how many heads attention has.
    if stored and stored.label_encoder and network.config.label_encoder:
        alike &= stored.label_encoder.heads == network.config.label_encoder.heads
    taken = ("backbone.", *(("latent.", "labels.encoder.", *filter(fits, heads)) if alike else ()))
    brought = {name: value for name, value in tensors.items() if name.startswith(taken)}
    kept = {name: value for name, value in wanted.items() if not name.startswith(taken)}
    load_strictly(network, kept | brought, path)
    return alike and all(map(fits, heads))


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
