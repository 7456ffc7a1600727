"""Distillation on loaders of one's own: views and targets belong together, runs repeat, and mistakes are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, TensorDataset

import kd
from tests.training.chain import RECIPE, KilledError, die_after


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


def given(*batches: Any) -> DataLoader[Any]:
    """A loader of these batches."""
    items: Any = list(batches)
    return DataLoader(items, batch_size=None)


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
    assert steps == [False] * 10 + [True] * 5 + [False] * 15  # 5 steps in each epoch, and 5 batches of val in view 0


def test_train_joint_teacher__says_what_does_not_fit(tmp_path: Path) -> None:
    cache = kd.cache_embeddings(tmp_path / "a", kd.Tapped(small(), ["L1"]), torch.rand(9, 3, 8, 8), device="cpu")
    short = kd.cache_embeddings(tmp_path / "b", kd.Tapped(small(), ["L1"]), torch.rand(8, 3, 8, 8), device="cpu")
    labels = torch.arange(9) % 4
    for caches, given, options, message in (
        ([], labels, {}, "embeddings: none are given"),
        ([cache, short], labels, {}, "b: has 1 views of 8 samples of train, but"),
        ([cache], labels[:8], {}, "train: 8 labels, expected those of 9 samples"),
        ([cache], labels, {"classes": 3}, "labels: of train are 0 to 3, expected 0 to 2"),
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
        (
            {"student": small(3), "teacher": small(3)},
            "labels: of train are 0 to 3, expected 0 to 2, as there are 3 classes",
        ),
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
            "labels: of train are torch.float32 of shape (8,), expected whole numbers",
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
        ({"val": given((torch.rand(4, 3, 8, 8), torch.arange(4) + 4))}, "labels: of val are 4 to 7, expected 0 to 3"),
        (
            {"val": given((torch.rand(4, 3, 8, 8), torch.ones(4, 4)))},
            "labels: of val have shape (4, 4), but those of train",
        ),
        (
            {"val": given({"image": 1, "label": 2})},
            "val: a batch is a dict of image, label; give the loader a collate_fn",
        ),
        ({"val": given()}, "val: gives no batch"),
        ({"val": [1, 2]}, "val: list, expected a DataLoader"),
        ({"train": Noisy()}, "train: Noisy, expected a DataLoader"),
        ({"recipe": {"lr": 1}}, "recipe: dict, expected a Recipe"),
        ({"method": kd.Distiller}, "expected the name of a method"),
        ({"level": "L7", "method": "mlfd"}, "level: 'L7', expected one of L1, L2, L3, L4"),
        ({"teacher": None}, "teacher: NoneType, expected a module or a Cache that gives logits"),
        ({"recipe": SMALL_RECIPE.model_copy(update={"head_lr": 2})}, "recipe head_lr: is for a Network"),
        ({"recipe": SMALL_RECIPE.model_copy(update={"freeze_norm": "all"})}, "recipe freeze_norm: is for a Network"),
        (
            {"train": DataLoader(Noisy(), batch_sampler=[[0, 1], [2]])},
            "train: a batch has 1 samples, expected at least 2",
        ),
        (
            {"train": DataLoader(Subset(Noisy(), range(24, 40)), batch_size=8), "method": "crd"},
            "train: rows 24 to 31, expected some of 0 to 15",
        ),
        (
            {
                "train": DataLoader(TensorDataset(torch.rand(8, 3, 8, 8), torch.full((8, 4), 3)), batch_size=8),
                "method": "mld",
            },
            "labels: of train have shape (8, 4), values 3 to 3, expected 0 and 1",
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


class Recorder(nn.Module):
    """A teacher that looks, and a network that notes how bright what it sees is."""

    def __init__(self) -> None:
        super().__init__()
        self.network, self.seen = small(), list[float]()

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            self.seen.append(inputs.mean().item())
        return self.network(inputs)  # type: ignore[no-any-return]


def flat(count: int, views: int) -> list[Tensor]:
    """View v has the value v everywhere."""
    return [torch.full((count, 3, 8, 8), float(view)) for view in range(views)]


class Alternating(Dataset[Any]):
    """A dataset of a user's own that listens."""

    epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return 16

    def __getitem__(self, row: int) -> Any:
        return flat(1, 2)[self.epoch % 2][0], row % 4, row


@pytest.mark.parametrize(
    "dataset",
    [
        kd.Views(flat(16, 2), torch.arange(16) % 4),
        Subset(Subset(kd.Views(flat(16, 2), torch.arange(16) % 4), range(16)), range(16)),
        Alternating(),
        kd.Views([Alternating(), Alternating()], torch.arange(16) % 4),
    ],
    ids=["views", "subset", "own", "nested"],
)
def test_distill_student__shows_the_view_of_each_epoch(tmp_path: Path, dataset: Dataset[Any]) -> None:
    cache = kd.cache_embeddings(tmp_path / "a", kd.Tapped(small()), flat(16, 2), device="cpu")
    student = Recorder()
    kd.distill_student(student, cache, DataLoader(dataset, batch_size=8), "kd", SMALL_RECIPE, device="cpu")
    assert student.seen == [0, 0, 1, 1, 0, 0]
    assert not student.training


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        (DataLoader(Noisy(), batch_size=8), "has 3 views, but nothing in the loader has a set_epoch"),
        (
            DataLoader(kd.Views(flat(40, 2), torch.arange(40) % 4), batch_size=8),
            "train: shows 2 views of 40 samples, but",
        ),
        (
            DataLoader(kd.Views(flat(24, 3), torch.arange(24) % 4), batch_size=8),
            "train: shows 3 views of 24 samples, but",
        ),
        (
            DataLoader(ConcatDataset([kd.Views(flat(40, 1), torch.arange(40) % 4)]), batch_size=8),
            "train: shows 1 views of 40 samples, but",
        ),
        (
            DataLoader(
                kd.Views(flat(40, 3), torch.arange(40) % 4), batch_size=8, num_workers=1, persistent_workers=True
            ),
            "persistent_workers is on",
        ),
    ],
)
def test_distill_student__refuses_views_that_are_not_those_of_the_cache(
    tmp_path: Path, loader: DataLoader[Any], message: str
) -> None:
    cache = kd.cache_embeddings(tmp_path / "a", kd.Tapped(small()), flat(40, 3), device="cpu")
    with pytest.raises(kd.UserError, match=message):
        kd.distill_student(small(), cache, loader, "kd", SMALL_RECIPE, device="cpu")


def test_distill_student__a_checkpoint_of_another_training_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        die_after(2, patch)
        with pytest.raises(KilledError):
            distilled(tmp_path)
    with pytest.raises(kd.UserError, match=r"is no checkpoint of this training .*delete it and run again"):
        distilled(tmp_path, seed=1)
    distilled(tmp_path)


def test_distill_student__generators_of_loaders_are_seeded() -> None:
    def run() -> float:
        generator = torch.Generator().manual_seed(torch.randint(1000, ()).item())  # type: ignore[arg-type]
        loader = DataLoader(Noisy(), batch_size=8, shuffle=True, generator=generator)
        return kd.distill_student(small(), small(), loader, "kd", SMALL_RECIPE, device="cpu")[-1]["loss"]

    assert run() == run()


def test_distill_student__label_embeddings_live_and_of_all_labels(tmp_path: Path) -> None:
    encoder = {"width": 8, "heads": 2, "hidden": 4}
    images, labels = torch.rand(16, 3, 32, 32), (torch.rand(16, 4) > 0.5).long()
    networks = [kd.create_network("test_resnet", 4, image_size=32, label_encoder=encoder) for _ in range(2)]
    student, teacher = (kd.Tapped(each) for each in networks)
    cache = kd.cache_embeddings(tmp_path / "a", teacher.naming(["logits", "label_embeddings"]), images, device="cpu")
    train = DataLoader(kd.Views(images, labels), batch_size=8)
    for source in (teacher, cache):
        assert kd.distill_student(student, source, train, "l2d", SMALL_RECIPE, device="cpu")[-1]["loss"] > 0


def test_distill_student__of_labels_alone_without_a_teacher_and_never_of_itself() -> None:
    loader, network = DataLoader(Noisy(), batch_size=8), small()
    kd.distill_student(network, None, loader, "vanilla", SMALL_RECIPE, device="cpu")
    with pytest.raises(kd.UserError, match="teacher: shares weights with the student"):
        kd.distill_student(network, kd.Tapped(network), loader, "kd", SMALL_RECIPE, device="cpu")


def test_fused_teacher__says_what_does_not_fit() -> None:
    maps: dict[str, Any] = {"grid": None, "map_channels": [], "width": 8, "dropout": 0.5}
    joint = kd.JointTeacher(kd.JointConfig(level="L1", channels=[216, 216], heads={"data": 4}, **maps))
    with pytest.raises(kd.UserError, match="teachers: 1, but the joint teacher fuses 2"):
        kd.FusedTeacher(joint, [small()])
    for teachers in ([small(), small()], [kd.Tapped(small()), kd.Tapped(small())]):
        with pytest.raises(kd.UserError, match="each has to be a Tapped one that gives L1"):
            kd.FusedTeacher(joint, teachers)(torch.rand(2, 3, 8, 8))
    with pytest.raises(kd.UserError, match="a JointTeacher takes embeddings; give a FusedTeacher"):
        kd.distill_student(small(), joint, DataLoader(Noisy(), batch_size=8), "kd", SMALL_RECIPE, device="cpu")


def test_cache_targets__says_what_does_not_fit(tmp_path: Path) -> None:
    maps: dict[str, Any] = {"grid": None, "map_channels": [], "width": 8, "dropout": 0.5}
    joint = kd.JointTeacher(kd.JointConfig(level="L1", channels=[216, 216], heads={"data": 4}, **maps))
    cache = kd.cache_embeddings(tmp_path / "a", kd.Tapped(small(), ["L1"]), torch.rand(9, 3, 8, 8), device="cpu")
    for caches, names, message in (
        ([cache], ["logits"], r"embeddings: have \[216\] channels, but the joint teacher takes \[216, 216\]"),
        ([cache, cache], ["L2"], "L2: the network has none, but logits, L1"),
        ([cache, cache], [], "names: none are given"),
        ([small()], ["logits"], "embeddings: some are no Cache"),
    ):
        with pytest.raises(kd.UserError, match=message):
            kd.cache_targets(tmp_path / "b", joint, caches, names, device="cpu")  # type: ignore[arg-type]
    assert kd.cache_targets(tmp_path / "b", joint, [cache, cache], "logits", device="cpu").names == ["logits"]
