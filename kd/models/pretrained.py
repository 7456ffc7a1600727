"""Pretrained weights of timm, from wherever timm has them: the one place that uses the network."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import timm

from kd.common.errors import UserError
from kd.models.backbones.timm_weights import PRETRAINED, check_pretrained
from kd.models.hub import SECONDS, hub_file, patience, reason, try_network
from kd.models.weights import save_tensors


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
