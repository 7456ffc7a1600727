"""From targets to a distilled student."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from kd.common.streams import torch_seed
from kd.data.loader import MemoryBudget
from kd.data.modalities.base import views_of
from kd.data.packed import Split, open_split
from kd.distillers.base import Distiller
from kd.models.devices import make_fabric
from kd.models.network import tap_shapes
from kd.models.spec import ModelSpec
from kd.models.weights import Exported, export_student, new_network, save_network
from kd.training.distillation import Distillation, Student
from kd.training.loop import finish, train_and_measure
from kd.training.recipe import Recipe
from kd.training.samples import ViewedSamples, data_memory
from kd.training.targets import TargetSource

MakeSource = Callable[[Split, Fabric, MemoryBudget], TargetSource]


def distill_student(
    directory: Path,
    dataset: Path,
    make_source: MakeSource,
    *,
    model: ModelSpec,
    method: Distiller,
    names: tuple[str, ...],
    views: int | None,
    recipe: Recipe,
    seed: int,
    pretrained: Path | None = None,
) -> tuple[dict[str, Any], str]:
    """Train a student on one dataset with soft targets.

    Args:
        directory: gets the student, history.csv and, while it trains, a checkpoint.
        dataset: packed.
        make_source: makes the source of the targets of the training split.
        model: the student.
        method: the loss, with its options.
        names: what it compares.
        views: that repeat over the epochs, as stored; None: a new one in each epoch.
        recipe: how the student is trained; its augmentation makes the views.
        seed: of initial weights, order, views and dropout.
        pretrained: directory of fetched weights, where the model wants them.

    Returns:
        Test metrics with the best epoch and notes on given weights, and the name of the device.
    """
    fabric = make_fabric(recipe.precision, training=True)
    memory = data_memory(fabric)
    torch.manual_seed(torch_seed("weights", seed))
    splits = {name: open_split(dataset, name) for name in ("val", "train", "test")}
    info = splits["train"].info
    seen = views_of(info.samples, "shared", info.name, seed, recipe.augmentation)
    images = {
        name: ViewedSamples(split, seen, fabric, memory if name != "test" else None, views)
        for name, split in splits.items()
    }
    network = new_network(model, [info], pretrained=pretrained)
    Exported(network, info.name)  # refuses now, not after training, what cannot be exported
    source = make_source(splits["train"], fabric, memory)
    auxiliary = method.auxiliary(tap_shapes(network, names, info.name), source.shapes(), info.sizes["train"])
    student = Student(network, info.name, names, auxiliary)
    objective = Distillation(student, images["train"], source, images["val"], method, recipe, seed, fabric)
    result = train_and_measure(objective, [images["test"]], directory)
    save_network(network, directory)
    export_student(network, info, directory)
    finish(directory)
    return result | {"notes": network.notes}, str(fabric.device)
