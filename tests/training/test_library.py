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
from kd.models.spec import ModelSpec
from kd.models.weights import Exported, new_network
from kd.training.recipe import Recipe
from kd.training.samples import ViewedSamples
from tests.training.chain import (
    MODEL,
    OTHER_MODEL,
    RECIPE,
    KilledError,
    Source,
    die_after,
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


def test_train_joint_teacher__weights_are_those_of_the_workflow(
    tmp_path: Path, dataset: Path, stores: dict[tuple[str, str], Path]
) -> None:
    """At a level without maps, where no student gives their shapes; views follow the epoch in both."""
    own = [stores["digits", "digits"], stores["other", "digits"]]
    fused = joint(tmp_path / "joint", [dataset], [own], "L1", student=None)
    labels = {name: open_split(dataset, name).labels for name in ("train", "val")}
    caches = {name: [kd.Cache(store, name) for store in own] for name in ("train", "val")}
    options = RECIPE.model_copy(update={"augmentation": None})
    made = kd.train_joint_teacher(
        caches["train"],
        labels["train"],
        options,
        width=8,
        dropout=0.2,
        val=(caches["val"], labels["val"]),
        device="cpu",
    )
    wanted = load_file(fused / "joint.safetensors")
    found = {name.replace("on_data", "on_digits"): value for name, value in made.state_dict().items()}
    assert all(torch.equal(found[name], value) for name, value in wanted.items())
    assert not made.training


# Loops of one's own


class Noisy(Dataset[tuple[Tensor, int, int]]):
    """Samples that draw from torch's generator, as augmentation does."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, row: int) -> tuple[Tensor, int, int]:
        return torch.rand(3, 8, 8) + row % 4, row % 4, row


def small(classes: int = 4) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(216, classes))


SMALL_RECIPE = kd.Recipe(lr=1e-2, epochs=3, batch_size=8, selection="last")


def distilled(directory: Path | None = None, seed: int = 0) -> dict[str, Tensor]:
    network, loader = small(), DataLoader(Noisy(), batch_size=8, shuffle=True)
    kd.distill_student(network, small(), loader, "kd", SMALL_RECIPE, seed=seed, directory=directory, device="cpu")
    return network.state_dict()


@pytest.mark.parametrize("steps", [1, 7])
def test_distill_student__goes_on_bit_identically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Killed after a step and called again: also where the samples are augmented at random."""
    whole = distilled()
    with monkeypatch.context() as patch:
        die_after(steps, patch)
        with pytest.raises(KilledError):
            distilled(tmp_path)
    resumed = distilled(tmp_path)
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())
    assert [path.name for path in tmp_path.iterdir()] == ["history.csv"]


def test_distill_student__seeds_tell_runs_apart() -> None:
    first, again, other = distilled(), distilled(), distilled(seed=1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_distillation_loss__a_loop_of_ones_own_learns_from_the_teacher() -> None:
    """What trains beside the student gets gradients, and the teacher none."""
    torch.manual_seed(0)
    images, labels, maps = torch.rand(32, 3, 8, 8), torch.arange(32) % 4, {"L2": "0"}
    method = kd.create_method("fitnet", level="L2", weight=1, label_weight=0)
    names = method.required().names()
    student = kd.Tapped(small(), ("logits", *names), maps=maps)
    teacher = kd.Tapped(nn.Sequential(nn.Conv2d(3, 9, 3)), names, maps=maps)
    criterion = kd.DistillationLoss(method, student.shapes(images), teacher.shapes(images), samples=32)
    optimizer = torch.optim.SGD([*student.parameters(), *criterion.parameters()], lr=0.1)
    losses = []
    for _ in range(20):
        with torch.no_grad():
            wanted = teacher(images)
        loss = criterion(student(images), wanted, kd.Batch(labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    assert all(parameter.grad is not None for parameter in criterion.parameters())
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_distill_student__multi_label_from_a_cache_of_two_views(tmp_path: Path) -> None:
    """In each epoch the student sees the view that the stored targets are of."""
    torch.manual_seed(0)
    views, labels = [torch.rand(40, 3, 8, 8), torch.rand(40, 3, 8, 8) + 1], (torch.rand(40, 4) > 0.5).long()
    cache = kd.cache_embeddings(tmp_path / "cache", kd.Tapped(small()), views, dtype="float32", device="cpu")
    for view, images in enumerate(views):
        torch.testing.assert_close(cache.read(view=view)["logits"], small().eval()(images))
    seen = []
    student = small()
    student.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].mean().item() > 1))
    train = DataLoader(kd.Views(views, labels), batch_size=8, shuffle=True)
    history = kd.distill_student(student, cache, train, "mld", SMALL_RECIPE, val=train, device="cpu")
    assert [set(row) for row in history] == [{"epoch", "loss", "val_mAP", "seconds"}] * 3
    shapes, *steps = seen
    assert not shapes
    assert steps == [False] * 10 + [True] * 10 + [False] * 10  # 5 steps and 5 batches of val in each epoch


def test_train_joint_teacher__says_what_does_not_fit(tmp_path: Path) -> None:
    cache = kd.cache_embeddings(tmp_path / "a", kd.Tapped(small(), ["L1"]), torch.rand(9, 3, 8, 8), device="cpu")
    short = kd.cache_embeddings(tmp_path / "b", kd.Tapped(small(), ["L1"]), torch.rand(8, 3, 8, 8), device="cpu")
    labels = torch.arange(9) % 4
    for caches, given, options, message in (
        ([], labels, {}, "embeddings: none are given"),
        ([cache, short], labels, {}, "b: has 1 views of 8 samples of train, but"),
        ([cache], labels[:8], {}, "train: 8 labels, expected those of 9 samples"),
        ([cache], labels, {"classes": 3}, "labels: found 0 to 3, expected 0 to 2"),
        ([cache], labels, {"level": "L2"}, "holds no L2, but L1"),
        ([cache], labels, {"map_channels": [3]}, "joint teacher: map_channels are [3], expected 0"),
        ([cache], labels, {"val": ([short], labels)}, "val: 9 labels, expected those of 8"),
        ([cache], labels, {"recipe": SMALL_RECIPE.model_copy(update={"mixup": 0.1})}, "recipe mixup and cutmix"),
    ):
        keywords: dict[str, Any] = {"recipe": SMALL_RECIPE, "device": "cpu"} | options
        with pytest.raises(kd.UserError) as caught:
            kd.train_joint_teacher(caches, given, **keywords)
        assert message in str(caught.value)


def test_distill_student__workers_and_drop_last() -> None:
    network = small()
    loader = DataLoader(Noisy(), batch_size=16, num_workers=2, drop_last=True, shuffle=True)
    recipe = SMALL_RECIPE.model_copy(update={"batch_size": 16, "epochs": 1})
    assert len(kd.distill_student(network, small(), loader, "crd", recipe, device="cpu")) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "kdd"}, "method: 'kdd', expected one of at, "),
        ({"method": "mlfd"}, "method mlfd: say at which level"),
        ({"method": "mld"}, "method mld: is for multi_label data, but labels are single_label"),
        ({"method": "rkd"}, None),
        ({"method": "fitnet"}, "level L3: say which submodule of Sequential gives this map"),
        ({"level": "L2", "method": "mlfd"}, "level L2: say which submodule"),
        ({"recipe": RECIPE}, "recipe augmentation: given"),
        ({"recipe": kd.Recipe(lr=1, epochs=1, batch_size=8)}, "recipe selection: best_val, but no val"),
        ({"recipe": kd.Recipe(lr=1, epochs=1, batch_size=9, selection="last")}, "recipe batch_size: 9, but batches"),
        ({"level": "L2"}, "level: given L2, but method kd says itself what it compares"),
        ({"teacher": small(5)}, "teacher: gives logits of 5 classes, but the student has 4"),
        ({"student": small(3), "teacher": small(3)}, "labels: found 0 to 3, expected 0 to 2, as there are 3 classes"),
        ({"directory": "/dev/null/x"}, "directory: /dev/null/x cannot be made"),
        ({"device": "cuda:77"}, "device: 'cuda:77' is not there"),
        ({"device": "abacus"}, "device: 'abacus' is not there"),
        ({"train": DataLoader(Noisy(), batch_size=3)}, "recipe batch_size: 8"),
        (
            {"train": DataLoader(TensorDataset(torch.rand(9, 3, 8, 8)), batch_size=8)},
            "expected tensors (inputs, labels)",
        ),
        (
            {"train": DataLoader(TensorDataset(torch.rand(9, 3, 8, 8), torch.arange(9) % 4), batch_size=8)},
            "its last batch has 1 samples",
        ),
        (
            {"train": DataLoader(TensorDataset(torch.rand(8, 3, 8, 8), torch.rand(8)), batch_size=8)},
            "labels: torch.float32 of shape (8,), expected whole numbers",
        ),
        (
            {
                "train": DataLoader(TensorDataset(torch.rand(8, 3, 8, 8), torch.arange(8) % 4), batch_size=8),
                "method": "crd",
            },
            "expected (inputs, labels, rows)",
        ),
        (
            {"method": "crd", "recipe": SMALL_RECIPE.model_copy(update={"mixup": 0.2})},
            "method crd: remembers each sample, so recipe mixup and cutmix have to be 0",
        ),
    ],
)
def test_distill_student__says_what_does_not_fit(options: dict[str, Any], message: str | None) -> None:
    given: dict[str, Any] = {
        "student": small(),
        "teacher": small(),
        "train": DataLoader(Noisy(), batch_size=8),
        "method": "kd",
        "recipe": SMALL_RECIPE,
        "device": "cpu",
    } | options
    if message is None:
        kd.distill_student(**given)
        return
    with pytest.raises(kd.UserError) as caught:
        kd.distill_student(**given)
    assert message in str(caught.value)
