"""Optimiser, learning-rate schedule and frozen norms of a recipe."""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import Any

import torch
from timm.optim import param_groups_weight_decay
from torch import nn, optim
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from kd.common.errors import UserError
from kd.models.network import Heads, LabelHead, Network
from kd.training.recipe import Recipe


def make_optimizer(module: nn.Module, recipe: Recipe, device: torch.device) -> optim.Optimizer:
    """The recipe's optimiser over the parameters that train on a device.

    Not decayed are biases, norms, and what a timm model within `module` names in `no_weight_decay`.
    """
    spared = {
        f"{prefix}.{name}".removeprefix(".")
        for prefix, each in module.named_modules()
        if hasattr(each, "no_weight_decay")
        for name in each.no_weight_decay()
    }
    groups: list[dict[str, Any]] = param_groups_weight_decay(module, recipe.weight_decay, no_weight_decay_list=spared)
    if recipe.head_lr != 1:
        heads = {id(p) for each in module.modules() if isinstance(each, Heads | LabelHead) for p in each.parameters()}
        groups = [
            group | {"params": params, "lr": factor * recipe.lr}
            for group in groups
            for own, factor in ((False, 1), (True, recipe.head_lr))
            if (params := [each for each in group["params"] if (id(each) in heads) == own])
        ]
    # One kernel for all parameters. With 16-mixed it would unscale the gradients itself, after they were clipped.
    fused = True if device.type == "cuda" and recipe.precision != "16-mixed" else None
    if recipe.optimizer == "sgd":
        return optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.momentum > 0, fused=fused)
    adam: type[optim.Adam | optim.AdamW] = {"adam": optim.Adam, "adamw": optim.AdamW}[recipe.optimizer]
    return adam(groups, lr=recipe.lr, fused=fused)


def freeze_norms(module: nn.Module, recipe: Recipe) -> list[nn.Module]:
    """Take the parameters of the batch norms that the recipe freezes out of training.

    Partial batch norm (Wang et al., "Temporal segment networks", ECCV 2016) freezes all but the first of a network.

    Returns:
        These batch norms: their statistics stay as they are while they are in eval mode, in which the caller puts them.

    Raises:
        UserError: the network has none of them.
    """
    if recipe.freeze_norm == "none":
        return []
    networks = [each.backbone for each in module.modules() if isinstance(each, Network)]
    norms = [[each for each in network.modules() if isinstance(each, _BatchNorm)] for network in networks]
    frozen: list[nn.Module] = [each for of in norms for each in of[recipe.freeze_norm == "all_but_first" :]]
    if not frozen:
        raise UserError(
            f"recipe freeze_norm: {recipe.freeze_norm}, but the network has no such batch norms; expected none"
        )
    for each in frozen:
        each.requires_grad_(requires_grad=False)
    return frozen


def make_schedule(optimizer: optim.Optimizer, recipe: Recipe, steps: int) -> LRScheduler:
    """Learning rate over `steps` optimiser steps; to be stepped once after each."""
    if recipe.schedule == "one_cycle":
        peaks = [group["lr"] for group in optimizer.param_groups]
        total = max(steps + 2, 4)  # torch divides by the length of either phase, which must not be 0
        warmup_part = min(max(recipe.warmup, 2 / total), 1 - 2 / total)
        return OneCycleLR(optimizer, peaks, total_steps=total, pct_start=warmup_part, cycle_momentum=False)
    warmup = round(recipe.warmup * steps)
    falls = [each * steps // (recipe.schedule_epochs or recipe.epochs) for each in recipe.milestones]

    def factor(step: int) -> float:
        if recipe.schedule == "constant":
            return 1.0
        if step < warmup:
            return (step + 1) / (warmup + 1)
        if recipe.schedule == "step":
            return 0.1 ** bisect_right(falls, step)
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

    return LambdaLR(optimizer, factor)
