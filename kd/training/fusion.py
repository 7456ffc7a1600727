"""From cached embeddings to a trained joint teacher."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from kd.data.packed import DatasetInfo, read_labels
from kd.models.joint import JointConfig, JointTeacher
from kd.models.spec import Level, ModelSpec, map_levels
from kd.training.cached import CachedSamples, join_embeddings
from kd.training.classification import Classification, measure_selections, measure_test
from kd.training.loop import finish, fit, make_fabric
from kd.training.recipe import Recipe

CONFIG, WEIGHTS = "joint.json", "joint.safetensors"


def train_joint_teacher(
    directory: Path,
    datasets: Sequence[Path],
    stores: Sequence[Sequence[Path]],
    *,
    level: Level,
    student: ModelSpec | None,
    width: int,
    dropout: float,
    views: int,
    recipe: Recipe,
    seed: int,
) -> tuple[dict[str, Any], str]:
    """Train T* with the labels of its target datasets; the individual teachers are not even loaded.

    Args:
        directory: gets the joint teacher, history.csv and, while it trains, a checkpoint.
        datasets: packed target datasets; one: scope per_target, several: scope shared.
        stores: embeddings of every teacher on each target.
        level: where the teachers are tapped.
        student: whose map shapes the distilled maps take; None: `width` channels, the teachers' own grid.
        width: channels of the adaptors.
        dropout: before the heads.
        views: stored views.
        recipe: how it is trained.
        seed: of initial weights, order and dropout.

    Returns:
        Test metrics with the best epoch, and the name of the device.
    """
    fabric = make_fabric(recipe.precision)
    torch.manual_seed(seed)

    def cached(name: str) -> list[CachedSamples]:
        splits = [read_labels(path, name) for path in datasets]
        return [
            CachedSamples(split, name, each, (level,), views, fabric)
            for split, each in zip(splits, stores, strict=True)
        ]

    train = cached("train")
    infos = [samples.info for samples in train]
    shapes = [samples.shapes(level) for samples in train]
    config = joint_config(level, shapes[0], infos, student, width=width, dropout=dropout)
    joint = JointTeacher(config)
    task = Classification(joint, train, cached("val"), recipe, seed, fabric, join_embeddings)
    trained = fit(fabric, task, recipe, seed, directory)
    test = cached("test")
    metrics = measure_selections(
        trained, joint, recipe.selection, lambda kind: measure_test(joint, test, kind, recipe.batch_size)
    )
    (directory / CONFIG).write_text(config.model_dump_json(indent=1))
    save_file(trained.weights[recipe.selection], directory / WEIGHTS)
    finish(directory)
    return {"metrics": metrics, "best_epoch": trained.best_epoch}, str(fabric.device)


def joint_config(
    level: Level,
    shapes: list[tuple[int, ...]],
    infos: list[DatasetInfo],
    student: ModelSpec | None,
    *,
    width: int,
    dropout: float,
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
    )


def load_joint_teacher(directory: Path) -> JointTeacher:
    """The joint teacher stored in a directory."""
    joint = JointTeacher(JointConfig.model_validate_json((directory / CONFIG).read_text()))
    joint.load_state_dict(load_file(directory / WEIGHTS))
    return joint
