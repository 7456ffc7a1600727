"""What tests of training share: a short recipe, small models, and every link of the chain as one call."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from kd.data.options import Augmentation
from kd.data.packed import open_split
from kd.distillers import mlfd
from kd.embeddings.options import CacheOptions
from kd.jobs.run import Context
from kd.models.spec import LEVELS, Level, ModelSpec
from kd.stages import cache_embeddings, cache_targets
from kd.training import loop
from kd.training.fusion import train_joint_teacher
from kd.training.metrics import metric_rows
from kd.training.predictions import SELECTIONS, read_predictions
from kd.training.recipe import JointSpec, Recipe, StudentSpec
from kd.training.students import distill_student

SHAKE = Augmentation(rotation=10, translate=0.1)
RECIPE = Recipe(lr=3e-3, epochs=6, batch_size=16, augmentation=SHAKE)
MODEL = ModelSpec(architecture="test_resnet", latent_dim=16)
OTHER_MODEL = ModelSpec(architecture="test_byobnet", latent_dim=8)
VIEWS = 2
MLFD = mlfd.Method()
Source = tuple[dict[str, Path], dict[str, Any]]
"""Where targets come from: directories by role, and what the spec of a student says of them."""


def folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def embedding_spec(
    arrays: tuple[str, ...] = LEVELS, views: int = VIEWS, dataset: str = "digits"
) -> cache_embeddings.Spec:
    return cache_embeddings.Spec(
        dataset=dataset, arrays=list(arrays), views=views, augmentation=SHAKE, cache=CacheOptions(), seed=0
    )


def losses(directory: Path) -> list[float]:
    return pd.read_csv(directory / "history.csv")["loss"].tolist()


def same_weights(first: Path, second: Path) -> bool:
    left, right = load_file(first), load_file(second)
    return list(left) == list(right) and all(torch.equal(left[name], right[name]) for name in left)


def joint(
    directory: Path,
    datasets: list[Path],
    stores: list[list[Path]],
    level: Level,
    live: Sequence[Path] = (),
    **options: Any,
) -> Path:
    """A joint teacher for some datasets, of the stores of each of them, or of live teachers."""
    targets = [str(number) for number in range(len(datasets))]
    teachers = [str(number) for number in range(len(live or stores[0]))]
    upstream = {f"dataset:{target}": path for target, path in zip(targets, datasets, strict=True)}
    upstream |= {f"teacher:{teacher}": path for teacher, path in zip(teachers, live, strict=False)}
    for target, paths in zip(targets, stores, strict=False):
        upstream |= {f"embeddings:{teacher}:{target}": path for teacher, path in zip(teachers, paths, strict=True)}
    given: dict[str, Any] = {
        "level": level,
        "student": MODEL,
        "width": 8,
        "dropout": 0.2,
        "label_encoder": None,
        "targets": targets,
        "teachers": teachers,
        "recipe": RECIPE,
        "seed": 0,
        **({"views": None, "live": CacheOptions()} if live else {"views": VIEWS, "live": None}),
    }
    train_joint_teacher(folder(directory), JointSpec(**(given | options)), upstream)
    return directory


def targets(directory: Path, dataset: Path, teacher: Path, stores: list[Path], level: Level) -> Path:
    """The joint teacher's targets for the views of `stores`."""
    names = [str(number) for number in range(len(stores))]
    spec = cache_targets.Spec(
        dataset="digits",
        level=level,
        teachers=names,
        arrays=list(MLFD.required(level).names()),
        views=VIEWS,
        augmentation=SHAKE,
        cache=CacheOptions(dtype="float32"),
        seed=0,
    )
    upstream = {f"embeddings:{name}": store for name, store in zip(names, stores, strict=True)}
    upstream |= {"dataset": dataset, "joint_teacher": teacher}
    cache_targets.build(Context(spec, upstream, folder(directory)))
    return directory


def student_spec(**options: Any) -> StudentSpec:
    given: dict[str, Any] = {
        "dataset": "digits",
        "level": None,
        "individual": False,
        "model": MODEL,
        "distiller": {"name": "mlfd"},
        "views": VIEWS,
        "live": None,
        "live_teachers": [],
        "recipe": RECIPE,
        "seed": 0,
    }
    return StudentSpec(**(given | options))


def student(directory: Path, dataset: Path, source: Source, **options: Any) -> Path:
    upstream, given = source
    distill_student(folder(directory), student_spec(**(given | options)), {"dataset": dataset} | upstream)
    return directory


def of_store(store: Path, level: Level, views: int = VIEWS) -> Source:
    """Stored targets."""
    return {"targets": store}, {"level": level, "views": views}


def of_live(teachers: dict[str, Path], fused: Path, level: Level) -> Source:
    """A joint teacher of live teachers."""
    upstream = {"joint_teacher": fused} | {f"teacher:{name}": path for name, path in teachers.items()}
    return upstream, {"level": level, "views": None, "live": CacheOptions(), "live_teachers": list(teachers)}


def of_joint(directory: Path, dataset: Path, teacher: Path, stores: list[Path], level: Level) -> Source:
    """A joint teacher's targets, which are stored first."""
    return of_store(targets(directory, dataset, teacher, stores, level), level)


def check_predictions(directory: Path, datasets: list[Path], metrics: list[dict[str, Any]]) -> None:
    """The metrics on test are those of the stored logits, to the last bit; ids and labels are the datasets'."""
    found: list[dict[str, Any]] = []
    for selection in SELECTIONS:
        for path in datasets:
            split = open_split(path, "test")
            info = split.info
            stored = read_predictions(directory, info.name, selection)
            assert stored.logits.dtype == np.float32
            assert stored.logits.shape == (info.sizes["test"], len(info.classes))
            for array, its_own in ((stored.ids, split.ids), (stored.labels, split.labels)):
                assert array.dtype == its_own.dtype
                np.testing.assert_array_equal(array, its_own)
            logits, labels = torch.from_numpy(stored.logits), torch.from_numpy(stored.labels)
            found += metric_rows(info.task, info.name, selection, info.classes, logits, labels)

    def order(row: dict[str, Any]) -> str:
        return str([row[key] for key in ("selection", "dataset", "metric")] + [row.get("class")])

    wanted = [row for row in metrics if not row["metric"].startswith("val_")]
    assert sorted(found, key=order) == sorted(wanted, key=order)


class KilledError(Exception):
    """What a kill looks like from inside."""


def checkpoint_each_step(monkeypatch: pytest.MonkeyPatch, then: Callable[[Any], None]) -> None:
    """Write a checkpoint after each step, and do something with it."""
    save = loop._Training._save

    def save_then(training: Any) -> None:
        save(training)
        then(training)

    monkeypatch.setattr(loop, "CHECKPOINT_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(loop, "CHECKPOINT_COST", math.inf)
    monkeypatch.setattr(loop._Training, "_save", save_then)


def die_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoint after each step, and die right after one of them."""
    done: list[None] = []

    def die(_training: Any) -> None:
        done.append(None)
        if len(done) == steps:
            raise KilledError

    checkpoint_each_step(monkeypatch, die)
