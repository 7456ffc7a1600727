"""From embeddings, cached or by live teachers, to a trained joint teacher."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from kd.common.streams import torch_seed
from kd.data.loader import MemoryBudget
from kd.data.packed import Split, open_split
from kd.models.devices import make_fabric
from kd.models.joint import JointTeacher, joint_config, save_joint_teacher
from kd.models.spec import JointOptions, Level
from kd.training.cached_embeddings import CachedSamples, EmbeddingSamples
from kd.training.classification import Classification
from kd.training.loop import finish, train_and_measure
from kd.training.recipe import Recipe
from kd.training.samples import data_memory

MakeSamples = Callable[[int, Split, Fabric, MemoryBudget | None], EmbeddingSamples]


def cached_embeddings(stores: Sequence[Sequence[Path]], level: Level, views: int) -> MakeSamples:
    """Samples from stores: those of every teacher on each target."""

    def make(number: int, split: Split, fabric: Fabric, memory: MemoryBudget | None) -> EmbeddingSamples:
        return CachedSamples(split, stores[number], (level,), views, fabric, memory)

    return make


def train_joint_teacher(
    directory: Path,
    datasets: Sequence[Path],
    embeddings: MakeSamples,
    options: JointOptions,
    recipe: Recipe,
    seed: int,
) -> tuple[dict[str, Any], str]:
    """Train T* with the labels of its target datasets, on embeddings by its individual teachers.

    Args:
        directory: gets the joint teacher, history.csv and, while it trains, a checkpoint.
        datasets: packed target datasets; one: scope per_target, several: scope shared.
        embeddings: makes the samples of a target dataset, by its number.
        options: what it is.
        recipe: how it is trained.
        seed: of initial weights, order and dropout.

    Returns:
        Test metrics with the best epoch, and the name of the device.
    """
    fabric = make_fabric(recipe.precision, training=True)
    memory = data_memory(fabric)
    torch.manual_seed(torch_seed("weights", seed))

    def samples(name: str, memory: MemoryBudget | None) -> list[EmbeddingSamples]:
        return [embeddings(number, open_split(path, name), fabric, memory) for number, path in enumerate(datasets)]

    val, train = samples("val", memory), samples("train", memory)
    joint = JointTeacher(joint_config(options, train[0].shapes(options.level), [each.info for each in train]))
    objective = Classification(joint, train, val, recipe, seed, fabric)
    result = train_and_measure(objective, samples("test", None), directory)
    save_joint_teacher(joint, directory)
    finish(directory)
    return result, str(fabric.device)
