"""From embeddings, cached or by live teachers, to a trained joint teacher."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from kd.common.streams import torch_seed
from kd.data.loader import MemoryBudget
from kd.data.packed import open_split
from kd.models.devices import make_fabric
from kd.models.joint import JointTeacher, joint_config, save_joint_teacher
from kd.training.cached_embeddings import CachedSamples, EmbeddingSamples
from kd.training.loop import finish, train_and_measure
from kd.training.recipe import LIVE, JointSpec
from kd.training.samples import data_memory
from kd.training.supervised import Classification


def train_joint_teacher(directory: Path, spec: JointSpec, upstream: Mapping[str, Path]) -> tuple[dict[str, Any], str]:
    """Train T* with the labels of its target datasets, on embeddings by its individual teachers.

    Args:
        directory: gets the joint teacher, predictions on test, history.csv and, while it trains, a checkpoint.
        spec: what it is and how it is trained; one target: scope per_target, several: scope shared.
        upstream: directories of each packed `dataset:TARGET`, and of the stores `embeddings:TEACHER:TARGET` or, where
            the teachers are live, of each `teacher:TEACHER`.

    Returns:
        Test metrics with the best epoch, and the name of the device.
    """
    fabric = make_fabric(spec.recipe.precision, training=True)
    memory = data_memory(fabric)
    torch.manual_seed(torch_seed("weights", spec.seed))
    live = None if spec.live is None else import_module(LIVE).live_embeddings(spec, upstream, fabric)

    def samples(name: str, memory: MemoryBudget | None) -> list[EmbeddingSamples]:
        found: list[EmbeddingSamples] = []
        for target in spec.targets:
            split = open_split(upstream[f"dataset:{target}"], name)
            if live is None:
                stores = [upstream[f"embeddings:{teacher}:{target}"] for teacher in spec.teachers]
                found.append(CachedSamples(split, stores, (spec.level,), spec.views, fabric, memory))
            else:
                found.append(live(split, memory))
        return found

    val, train = samples("val", memory), samples("train", memory)
    joint = JointTeacher(joint_config(spec, train[0].shapes(spec.level), [each.info for each in train]))
    objective = Classification(joint, train, val, spec.recipe, spec.seed, fabric)
    result = train_and_measure(objective, samples("test", None), directory)
    save_joint_teacher(joint, directory)
    finish(directory)
    return result, str(fabric.device)
