"""The loop for networks and data in memory: the same weights as the workflow's, and clear errors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import kd
from kd.common.streams import torch_seed
from kd.data.loader import shuffled_batches
from kd.data.modalities.base import plain, views_of
from kd.data.order import view_of_epoch
from kd.data.packed import Split, open_split
from kd.models.devices import make_fabric
from kd.models.spec import Level, ModelSpec
from kd.models.weights import Exported, new_network
from kd.training.recipe import Recipe
from kd.training.samples import ViewedSamples
from tests.training.chain import (
    MODEL,
    OTHER_MODEL,
    RECIPE,
    Source,
    joint,
    of_joint,
    of_live,
    of_store,
    student,
)

RICH = RECIPE.model_copy(update={"epochs": 3, "mixup": 0.2, "ema": 0.9, "accumulate": 2, "clip_grad": 1.0})


class WorkflowViews(Dataset[tuple[Tensor, Tensor, int]]):
    """A packed split in the views that the workflow gives a student."""

    def __init__(self, split: Split, recipe: Recipe, views: int | None) -> None:
        self.split, self.count = split, views
        self.views = views_of(split.info.samples, "shared", split.info.name, 0, recipe.augmentation)

    def set_epoch(self, epoch: int) -> None:
        self.view = view_of_epoch(epoch, self.count)

    def __len__(self) -> int:
        return len(self.split.ids)

    def __getitems__(self, rows: list[int]) -> list[tuple[Tensor, Tensor, int]]:
        chosen = np.array(rows)
        pixels = torch.from_numpy(self.split.images.read()[chosen])
        seen = self.views(pixels, self.split.ids[chosen], self.view)
        labels = torch.from_numpy(self.split.labels[chosen])
        return list(zip(seen, labels, rows, strict=True))


class WorkflowOrder:
    """The batches of the workflow, as rows."""

    def __init__(self, split: Split, recipe: Recipe) -> None:
        samples = ViewedSamples(split, lambda pixels, *_: pixels.float(), make_fabric("32"), None)
        self.groups, self.recipe, self.split, self.epoch = [samples.groups], recipe, split, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __iter__(self) -> Iterator[list[int]]:
        batches = shuffled_batches(self.groups, self.recipe.batch_size, seed=0, epoch=self.epoch)
        return (each[0].rows.tolist() for each in batches)


def loaders(dataset: Path, recipe: Recipe, views: int | None) -> tuple[DataLoader[Any], DataLoader[Any]]:
    train, val = (open_split(dataset, name) for name in ("train", "val"))
    order: Any = WorkflowOrder(train, recipe)
    shown = plain(val.info.samples, torch.from_numpy(val.images.read()))
    return (
        DataLoader(WorkflowViews(train, recipe, views), batch_sampler=order),
        DataLoader(TensorDataset(shown, torch.from_numpy(val.labels)), batch_size=4 * recipe.batch_size),
    )


def by_api(dataset: Path, source: Source, model: ModelSpec, recipe: Recipe, teacher: nn.Module | kd.Cache) -> nn.Module:
    info = open_split(dataset, "train").info
    torch.manual_seed(torch_seed("weights", 0))
    network = new_network(model, [info])
    Exported(network, info.name)  # draws numbers, as in the workflow, ahead of the projectors
    train, val = loaders(dataset, recipe, source[1]["views"])
    options = recipe.model_copy(update={"augmentation": None})
    kd.distill_student(network, teacher, train, "mlfd", options, level=source[1]["level"], val=val, device="cpu")
    return network


def check_equal(network: nn.Module, directory: Path) -> None:
    wanted, found = load_file(directory / "network.safetensors"), network.state_dict()
    assert list(wanted)
    for name, value in wanted.items():
        assert torch.equal(found[name], value), name


@pytest.mark.parametrize(("model", "recipe"), [(MODEL, RICH), (OTHER_MODEL, RICH), (MODEL, RECIPE)])
def test_distill_student__weights_are_those_of_the_workflow_with_cached_targets(
    tmp_path: Path, dataset: Path, stores: dict[tuple[str, str], Path], model: ModelSpec, recipe: Recipe
) -> None:
    """With projectors, mixup, averaged weights, batches in parts; and with a plain recipe."""
    own = [stores["digits", "digits"], stores["other", "digits"]]
    fused = joint(tmp_path / "joint", [dataset], [own], "L2")
    source = of_joint(tmp_path / "targets", dataset, fused, own, "L2")
    taught = student(tmp_path / "student", dataset, source, model=model, recipe=recipe)
    network = by_api(dataset, source, model, recipe, kd.Cache(source[0]["targets"]))
    check_equal(network, taught)


def test_distill_student__weights_are_those_of_the_workflow_with_stored_embeddings(
    tmp_path: Path, dataset: Path, stores: dict[tuple[str, str], Path]
) -> None:
    source = of_store(stores["digits", "digits"], "L2")
    taught = student(tmp_path / "student", dataset, source, individual=True, recipe=RICH)
    check_equal(by_api(dataset, source, MODEL, RICH, kd.Cache(stores["digits", "digits"])), taught)


def test_distill_student__weights_are_those_of_the_workflow_with_live_teachers(
    tmp_path: Path, dataset: Path, teachers: dict[str, Path], stores: dict[tuple[str, str], Path]
) -> None:
    own = [stores["digits", "digits"], stores["other", "digits"]]
    fused = joint(tmp_path / "joint", [dataset], [own], "L2")
    source = of_live(teachers, fused, "L2")
    taught = student(tmp_path / "student", dataset, source, recipe=RICH)
    tapped = [kd.Tapped(kd.load_network(path), ("L2",), dataset=name) for name, path in teachers.items()]
    before = {name: value.clone() for each in tapped for name, value in each.state_dict().items()}
    modes = [each.training for each in tapped]
    teacher = kd.FusedTeacher(kd.load_joint_teacher(fused), tapped)
    check_equal(by_api(dataset, source, MODEL, RICH, teacher), taught)
    after = {name: value for each in tapped for name, value in each.state_dict().items()}
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert [each.training for each in tapped] == modes


@pytest.mark.parametrize("level", ["L1", "L3"])
def test_train_joint_teacher__weights_are_those_of_the_workflow(
    tmp_path: Path, dataset: Path, stores: dict[tuple[str, str], Path], level: Level
) -> None:
    """Where no student gives the shapes of maps; views follow the epoch in both."""
    own = [stores["digits", "digits"], stores["other", "digits"]]
    fused = joint(tmp_path / "joint", [dataset], [own], level, student=None)
    labels = {name: open_split(dataset, name).labels for name in ("train", "val")}
    caches = {name: [kd.Cache(store, name) for store in own] for name in ("train", "val")}
    options = RECIPE.model_copy(update={"augmentation": None})
    made = kd.train_joint_teacher(
        caches["train"],
        labels["train"],
        options,
        level=level,
        width=8,
        dropout=0.2,
        val=(caches["val"], labels["val"]),
        device="cpu",
    )
    wanted = load_file(fused / "joint.safetensors")
    found = {name.replace("on_data", "on_digits"): value for name, value in made.state_dict().items()}
    assert all(torch.equal(found[name], value) for name, value in wanted.items())
    assert not made.training
