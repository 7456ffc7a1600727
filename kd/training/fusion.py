"""From cached embeddings to a trained joint teacher."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from kd.common.streams import torch_seed
from kd.data.loader import MemoryBudget
from kd.data.packed import DatasetInfo, Split, open_split
from kd.models.devices import make_fabric
from kd.models.joint import JointConfig, JointTeacher, save_joint_teacher
from kd.models.spec import LabelEncoderOptions, Level, ModelSpec, map_levels
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
    *,
    level: Level,
    student: ModelSpec | None,
    width: int,
    dropout: float,
    label_encoder: LabelEncoderOptions | None,
    recipe: Recipe,
    seed: int,
) -> tuple[dict[str, Any], str]:
    """Train T* with the labels of its target datasets; the individual teachers are not even loaded.

    Args:
        directory: gets the joint teacher, history.csv and, while it trains, a checkpoint.
        datasets: packed target datasets; one: scope per_target, several: scope shared.
        embeddings: makes the samples of a target dataset, by its number.
        level: where the teachers are tapped.
        student: whose map shapes the distilled maps take; None: `width` channels, the teachers' own grid.
        width: channels of the adaptors.
        dropout: before the heads, or before the label encoder.
        label_encoder: for multi-label targets, or None.
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
    infos = [each.info for each in train]
    shapes = train[0].shapes(level)
    config = joint_config(level, shapes, infos, student, width=width, dropout=dropout, label_encoder=label_encoder)
    joint = JointTeacher(config)
    objective = Classification(joint, train, val, recipe, seed, fabric)
    result = train_and_measure(objective, samples("test", None), directory)
    save_joint_teacher(joint, directory)
    finish(directory)
    return result, str(fabric.device)


def joint_config(
    level: Level,
    shapes: list[tuple[int, ...]],
    infos: list[DatasetInfo],
    student: ModelSpec | None,
    *,
    width: int,
    dropout: float,
    label_encoder: LabelEncoderOptions | None = None,
) -> JointConfig:
    """Shapes of a joint teacher: from the teachers' embeddings and from the student it is meant for."""
    grid: tuple[int, int] | None = None
    map_channels: list[int] = []
    if level != "L1":
        levels = map_levels(level)
        grid = (max(shape[1] for shape in shapes), max(shape[2] for shape in shapes))
        map_channels = [width] * len(levels)
        if student is not None:
            from kd.models.network import tap_shapes
            from kd.models.weights import new_network

            own = tap_shapes(new_network(student, infos, statistics=infos[0]), levels)
            grid = (own[level][1], own[level][2])
            map_channels = [own[each][0] for each in levels]
    return JointConfig(
        level=level,
        channels=[shape[0] for shape in shapes],
        grid=grid,
        map_channels=map_channels,
        width=width,
        dropout=dropout,
        heads={info.name: len(info.classes) for info in infos},
        label_encoder=label_encoder,
    )
