"""Optimiser and learning-rate schedule of a recipe."""

from __future__ import annotations

import math

import torch
from timm.optim import param_groups_weight_decay
from torch import nn, optim
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

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
    groups = param_groups_weight_decay(module, recipe.weight_decay, no_weight_decay_list=spared)
    # One kernel for all parameters. With 16-mixed it would unscale the gradients itself, after they were clipped.
    fused = True if device.type == "cuda" and recipe.precision != "16-mixed" else None
    if recipe.optimizer == "sgd":
        return optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.momentum > 0, fused=fused)
    adam: type[optim.Adam | optim.AdamW] = {"adam": optim.Adam, "adamw": optim.AdamW}[recipe.optimizer]
    return adam(groups, lr=recipe.lr, fused=fused)


def make_schedule(optimizer: optim.Optimizer, recipe: Recipe, steps: int) -> LRScheduler:
    """Learning rate over `steps` optimiser steps; to be stepped once after each."""
    if recipe.schedule == "one_cycle":
        total = max(steps + 2, 4)  # torch divides by the length of either phase, which must not be 0
        warmup_part = min(max(recipe.warmup, 2 / total), 1 - 2 / total)
        return OneCycleLR(optimizer, recipe.lr, total_steps=total, pct_start=warmup_part, cycle_momentum=False)
    warmup = round(recipe.warmup * steps) if recipe.schedule == "cosine" else 0

    def factor(step: int) -> float:
        if recipe.schedule == "constant":
            return 1.0
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

    return LambdaLR(optimizer, factor)
