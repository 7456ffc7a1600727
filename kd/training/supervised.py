"""From datasets to a trained network: individual teachers and the joint baseline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from kd.common.streams import torch_seed
from kd.data.modalities.base import views_of
from kd.data.packed import open_split
from kd.models.devices import make_fabric
from kd.models.spec import ModelSpec
from kd.models.weights import new_network, save_network
from kd.training.classification import Classification
from kd.training.loop import finish, train_and_measure
from kd.training.measuring import result_rows
from kd.training.recipe import Recipe
from kd.training.samples import ViewedSamples, data_memory

EVALUATION_BATCH = 64


def train_network(
    directory: Path,
    datasets: Sequence[Path],
    model: ModelSpec,
    recipe: Recipe | None,
    seed: int,
    pretrained: Path | None = None,
) -> tuple[dict[str, Any], str]:
    """Train one network with labels; several datasets share all of it but their heads.

    Args:
        directory: gets the network, history.csv and, while it trains, a checkpoint.
        datasets: packed datasets; input statistics are those of the first.
        model: the network.
        recipe: None: given weights are evaluated and stored as they are.
        seed: of initial weights, order, views and dropout.
        pretrained: directory of fetched weights, where the model wants them.

    Returns:
        Test metrics with the best epoch and notes on given weights, and the name of the device.
    """
    fabric = make_fabric(recipe.precision, training=True) if recipe else make_fabric("32")
    torch.manual_seed(torch_seed("weights", seed))
    memory = data_memory(fabric)
    splits = {name: [open_split(path, name) for path in datasets] for name in ("val", "train", "test")}
    infos = [split.info for split in splits["train"]]
    network = new_network(model, infos, pretrained=pretrained, trains=recipe is not None)
    augmentation = recipe.augmentation if recipe else None
    views = [views_of(info.samples, "train", info.name, seed, augmentation) for info in infos]
    samples = {
        name: [
            ViewedSamples(split, view, fabric, memory if name != "test" else None, fit=network.resize)
            for split, view in zip(each, views, strict=True)
        ]
        for name, each in splits.items()
    }
    if recipe is None:
        network.to(fabric.device)
        metrics = result_rows(network, network, samples["val"], samples["test"], "last", EVALUATION_BATCH)
        metrics += [row | {"selection": "best_val"} for row in metrics]
        result = {"metrics": metrics, "best_epoch": 0}
    else:
        objective = Classification(network, samples["train"], samples["val"], recipe, seed, fabric)
        result = train_and_measure(objective, samples["test"], directory)
    save_network(network, directory)
    finish(directory)
    return result | {"notes": network.notes}, str(fabric.device)
