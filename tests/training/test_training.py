"""Training: it learns, it is reproducible, it goes on where it stopped, and frozen things stay frozen."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from kd.data.options import Augmentation, SplitOptions
from kd.data.packed import read_split
from kd.data.views import Views
from kd.distillers import mlfd
from kd.distillers.registry import load_distiller
from kd.jobs.errors import UserError
from kd.jobs.run import Context
from kd.models.alignment import AlignedStudent
from kd.models.network import Features, freeze
from kd.models.spec import Level, ModelSpec, cached_levels
from kd.models.weights import load_network, new_network
from kd.stages import cache_embeddings
from kd.training import loop
from kd.training.cached import CachedSamples
from kd.training.classification import Batch, ImageSamples, classification_loss
from kd.training.distillation import Distillation
from kd.training.fusion import load_joint_teacher, train_joint_teacher
from kd.training.loop import make_fabric
from kd.training.optimisation import make_optimizer, make_schedule
from kd.training.recipe import Recipe
from kd.training.students import distill_student
from kd.training.supervised import train_network
from tests.conftest import pack_digits

SHAKE = Augmentation(rotation=10, translate=0.1)
RECIPE = Recipe(lr=3e-3, epochs=6, batch_size=16, augmentation=SHAKE)
MODEL = ModelSpec(architecture="test_resnet", latent_dim=16)
OTHER_MODEL = ModelSpec(architecture="test_byobnet", latent_dim=8)
VIEWS = 2
MLFD = load_distiller("mlfd")


def folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


@pytest.fixture(scope="module")
def teachers(tmp_path_factory: pytest.TempPathFactory, dataset: Path, other_dataset: Path) -> dict[str, Path]:
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("teachers")
    train_network(folder(root / "digits"), [dataset], MODEL, RECIPE, 0)
    train_network(folder(root / "other"), [other_dataset], OTHER_MODEL, RECIPE, 0)
    return {"digits": root / "digits", "other": root / "other"}


@pytest.fixture(scope="module")
def stores(
    tmp_path_factory: pytest.TempPathFactory, teachers: dict[str, Path], dataset: Path, other_dataset: Path
) -> dict[tuple[str, str], Path]:
    """Embeddings of each teacher on each dataset, at all levels."""
    spec = cache_embeddings.Spec(levels=["L1", "L2", "L3", "L4"], views=VIEWS, augmentation=SHAKE, seed=0)
    found = {}
    for teacher, path in teachers.items():
        for name, data in (("digits", dataset), ("other", other_dataset)):
            found[teacher, name] = tmp_path_factory.mktemp("store")
            cache_embeddings.build(Context(spec, {"teacher": path, "dataset": data}, found[teacher, name]))
    return found


def losses(directory: Path) -> list[float]:
    return pd.read_csv(directory / "history.csv")["loss"].tolist()


def same_weights(first: Path, second: Path) -> bool:
    left, right = load_file(first), load_file(second)
    return list(left) == list(right) and all(torch.equal(left[name], right[name]) for name in left)


def joint(directory: Path, datasets: list[Path], stores: list[list[Path]], level: Level, **options: Any) -> Path:
    arguments: dict[str, Any] = {"student": MODEL, "width": 8, "dropout": 0.2, "views": VIEWS, "recipe": RECIPE}
    arguments |= {"seed": 0} | options
    train_joint_teacher(folder(directory), datasets, stores, level=level, **arguments)
    return directory


def student(directory: Path, dataset: Path, teacher: Path, stores: list[Path], level: Level, **options: Any) -> Path:
    individual = options.pop("individual", False)
    arguments: dict[str, Any] = {"model": MODEL, "views": VIEWS, "recipe": RECIPE, "seed": 0} | options
    arguments.setdefault("distiller", (MLFD, mlfd.Options()))
    distill_student(
        folder(directory),
        dataset,
        teacher,
        stores,
        individual=individual,
        levels=cached_levels(level, individual=individual),
        **arguments,
    )
    return directory


def test_train_network__learns_and_is_reproducible(tmp_path: Path, dataset: Path) -> None:
    result, device = train_network(folder(tmp_path / "a"), [dataset], MODEL, RECIPE, 0)
    train_network(folder(tmp_path / "b"), [dataset], MODEL, RECIPE, 0)
    train_network(folder(tmp_path / "c"), [dataset], MODEL, RECIPE, 1)
    curve = losses(tmp_path / "a")
    assert curve[-1] < 0.8 * curve[0]
    assert same_weights(tmp_path / "a/network.safetensors", tmp_path / "b/network.safetensors")
    assert not same_weights(tmp_path / "a/network.safetensors", tmp_path / "c/network.safetensors")
    assert {(row["selection"], row["metric"]) for row in result["metrics"]} == {
        (selection, metric) for selection in ("best_val", "last") for metric in ("acc@1", "acc@5")
    }
    assert device == "cpu"
    assert not list((tmp_path / "a").glob(".checkpoint*"))


def test_train_network__several_datasets_each_by_its_own_head(
    tmp_path: Path, dataset: Path, other_dataset: Path
) -> None:
    result, _ = train_network(folder(tmp_path / "a"), [dataset, other_dataset], MODEL, RECIPE, 0)
    assert {row["dataset"] for row in result["metrics"]} == {"digits", "other"}
    assert set(load_network(tmp_path / "a").heads.datasets()) == {"digits", "other"}
    assert losses(tmp_path / "a")[-1] < losses(tmp_path / "a")[0]


def test_train_network__datasets_of_different_image_sizes(tmp_path: Path, dataset: Path) -> None:
    split = SplitOptions(train=20, val=10, test=10, seed=2)
    large = pack_digits(folder(tmp_path / "large"), "large", split, image_size=(40, 48))
    result, _ = train_network(folder(tmp_path / "a"), [dataset, large], MODEL, RECIPE, 0)
    assert {row["dataset"] for row in result["metrics"]} == {"digits", "large"}


def test_classification_loss__each_sample_by_the_head_of_its_dataset() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = {"a": torch.randn(5, 3, generator=generator), "b": torch.randn(5, 4, generator=generator)}
    labels = torch.tensor([0, 2, 3, 1, 0])
    batch = Batch(None, labels, {"a": slice(0, 2), "b": slice(2, 5)})
    expected = 0.0
    for row, name in enumerate("aabbb"):
        powers = logits[name][row].double().exp()
        expected -= (powers[labels[row]] / powers.sum()).log().item() / 5
    loss = classification_loss(Features(torch.zeros(5, 1), logits=logits), batch)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one_cycle"])
@pytest.mark.parametrize("steps", [1, 2, 10, 500])
@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.9])
@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler")
def test_make_schedule__stays_within_its_peak(schedule: Any, steps: int, warmup: float) -> None:
    recipe = Recipe(optimizer="sgd", momentum=0.5, lr=0.1, epochs=1, batch_size=2, schedule=schedule, warmup=warmup)
    optimizer = make_optimizer(torch.nn.Linear(2, 2), recipe)
    scheduler = make_schedule(optimizer, recipe, steps)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert all(0 <= rate <= 0.1 + 1e-9 for rate in rates)
    assert optimizer.param_groups[0]["momentum"] == 0.5
    if schedule != "constant" and steps == 500:
        assert max(rates) > 0.099
        assert rates[-1] < 0.01


def test_train_network__brought_weights_stay_as_they_are(
    tmp_path: Path, dataset: Path, teachers: dict[str, Path]
) -> None:
    weights = {"path": str(teachers["digits"] / "network.safetensors")}
    model = ModelSpec.model_validate(MODEL.model_dump() | {"weights": weights})
    result, _ = train_network(folder(tmp_path / "a"), [dataset], model, None, 0)
    assert load_network(tmp_path / "a").config == load_network(teachers["digits"]).config  # its statistics, too
    assert same_weights(tmp_path / "a/network.safetensors", teachers["digits"] / "network.safetensors")
    assert len(result["metrics"]) == 4


class KilledError(Exception):
    """What a kill looks like from inside."""


def die_after(saves: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoint after each epoch, and die right after one of them."""
    done: list[None] = []
    save = loop._save

    def save_then_die(*arguments: Any) -> None:
        done.append(save(*arguments))
        if len(done) == saves:
            raise KilledError

    monkeypatch.setattr(loop, "CHECKPOINT_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(loop, "_save", save_then_die)


@pytest.mark.parametrize("stop_at", [1, 3, 5])
def test_fit__continues_bit_identically_from_a_checkpoint(
    tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    train_network(folder(tmp_path / "whole"), [dataset], MODEL, RECIPE, 0)
    die_after(stop_at, monkeypatch)
    with pytest.raises(KilledError):
        train_network(folder(tmp_path / "cut"), [dataset], MODEL, RECIPE, 0)
    assert not (tmp_path / "cut/network.safetensors").exists()
    assert (tmp_path / "cut" / loop.CHECKPOINT).exists()
    train_network(tmp_path / "cut", [dataset], MODEL, RECIPE, 0)
    assert same_weights(tmp_path / "whole/network.safetensors", tmp_path / "cut/network.safetensors")


def test_fit__joint_teachers_and_students_continue_bit_identically(
    tmp_path: Path, dataset: Path, stores: dict[tuple[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = [stores["digits", "digits"], stores["other", "digits"]]
    fused = joint(tmp_path / "joint", [dataset], [own], "L2")
    taught = student(tmp_path / "student", dataset, fused, own, "L2")
    die_after(2, monkeypatch)
    with pytest.raises(KilledError):
        joint(tmp_path / "joint_cut", [dataset], [own], "L2")
    joint(tmp_path / "joint_cut", [dataset], [own], "L2")
    assert same_weights(fused / "joint.safetensors", tmp_path / "joint_cut/joint.safetensors")
    die_after(4, monkeypatch)
    with pytest.raises(KilledError):
        student(tmp_path / "student_cut", dataset, fused, own, "L2")
    student(tmp_path / "student_cut", dataset, fused, own, "L2")
    assert same_weights(taught / "model.safetensors", tmp_path / "student_cut/model.safetensors")


def test_fit__diverged_loss_is_a_user_error(tmp_path: Path, dataset: Path) -> None:
    recipe = RECIPE.model_copy(update={"lr": 1e12, "optimizer": "sgd", "schedule": "constant"})
    with pytest.raises(UserError, match=r"loss is (nan|inf) at epoch \d+, step \d+: .* lower recipe lr"):
        train_network(folder(tmp_path / "a"), [dataset], MODEL, recipe, 0)
    assert not (tmp_path / "a/network.safetensors").exists()


@pytest.mark.parametrize("level", ["L1", "L2", "L3", "L4"])
def test_chain__joint_teacher_and_student_learn(
    tmp_path: Path, dataset: Path, stores: dict[tuple[str, str], Path], level: Level
) -> None:
    own = [stores["digits", "digits"], stores["other", "digits"]]
    fused = joint(tmp_path / "joint", [dataset], [own], level)
    assert losses(fused)[-1] < losses(fused)[0]
    taught = student(tmp_path / "student", dataset, fused, own, level)
    assert losses(taught)[-1] < losses(taught)[0]
    again = student(tmp_path / "again", dataset, fused, own, level)
    assert same_weights(taught / "model.safetensors", again / "model.safetensors")


def test_chain__shared_joint_teacher_and_foreign_student(
    tmp_path: Path, dataset: Path, other_dataset: Path, stores: dict[tuple[str, str], Path]
) -> None:
    """Scope shared: one T*, a head per dataset, maps that fit no student: projectors make up for it."""
    pairs = [[stores[teacher, name] for teacher in ("digits", "other")] for name in ("digits", "other")]
    fused = joint(tmp_path / "joint", [dataset, other_dataset], pairs, "L2", student=None)
    assert set(load_joint_teacher(fused).heads.datasets()) == {"digits", "other"}
    taught = student(tmp_path / "student", dataset, fused, pairs[0], "L2", model=OTHER_MODEL)
    assert losses(taught)[-1] < losses(taught)[0]


@pytest.mark.parametrize("level", ["L1", "L2"])
def test_chain__single_dataset_distillation(
    tmp_path: Path, dataset: Path, teachers: dict[str, Path], stores: dict[tuple[str, str], Path], level: Level
) -> None:
    own = [stores["digits", "digits"]]
    taught = student(tmp_path / "student", dataset, teachers["digits"], own, level, individual=True)
    assert losses(taught)[-1] < losses(taught)[0]


def make_distillation(dataset: Path, teacher: Path, own: list[Path], options: mlfd.Options) -> Distillation:
    fabric = make_fabric("32")
    torch.manual_seed(0)
    train, val = (read_split(dataset, name) for name in ("train", "val"))
    views = Views(train.info, 0, SHAKE)
    maker = freeze(load_joint_teacher(teacher))
    network = new_network(MODEL, [train.info], statistics=train.info)
    return Distillation(
        AlignedStudent(network, "digits", {"L2": (96, 1, 1)}),
        maker,
        ImageSamples(train, views, fabric, VIEWS),
        CachedSamples(train, "train", own, ("L2",), VIEWS, fabric),
        ImageSamples(val, views, fabric),
        (MLFD, options),
        RECIPE,
        0,
        fabric,
    )


def test_distillation__gradients_reach_only_the_student(
    tmp_path: Path, dataset: Path, stores: dict[tuple[str, str], Path]
) -> None:
    own = [stores["digits", "digits"], stores["other", "digits"]]
    fused = joint(tmp_path / "joint", [dataset], [own], "L2")
    task = make_distillation(dataset, fused, own, mlfd.Options())
    teacher = task.teacher
    assert isinstance(teacher, torch.nn.Module)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    batch = next(task.batches(0))
    task.module.train()
    torch.autograd.backward(task.loss(task.module, batch))
    assert all(parameter.grad is None for parameter in teacher.parameters())
    missing = [name for name, parameter in task.module.named_parameters() if parameter.grad is None]
    assert not missing
    for name, value in teacher.state_dict().items():  # batch-norm statistics do not move
        assert torch.equal(value, before[name]), name


def test_distillation__images_and_embeddings_are_of_the_same_view(
    tmp_path: Path, dataset: Path, teachers: dict[str, Path], stores: dict[tuple[str, str], Path]
) -> None:
    """What the student sees, shown to the individual teacher live, gives what came from the cache."""
    own = [stores["digits", "digits"], stores["other", "digits"]]
    fused = joint(tmp_path / "joint", [dataset], [own], "L2")
    task = make_distillation(dataset, fused, own, mlfd.Options())
    live = freeze(load_network(teachers["digits"]))
    second = freeze(load_network(teachers["other"]))
    for epoch in (0, 1, 3):
        batch = next(task.batches(epoch))
        seen = [{"L2": network(batch.images, ("L2",)).maps["L2"]} for network in (live, second)]
        expected = task.teacher.make_targets(seen, "digits")
        torch.testing.assert_close(batch.targets.logits, expected.logits, rtol=0.02, atol=0.02)


def test_fit__bf16_trains(tmp_path: Path, dataset: Path) -> None:
    recipe = RECIPE.model_copy(update={"precision": "bf16-mixed"})
    train_network(folder(tmp_path / "a"), [dataset], MODEL, recipe, 0)
    curve = losses(tmp_path / "a")
    assert curve[-1] < curve[0]


def test_pairing__a_store_of_other_samples_is_refused(
    tmp_path: Path, dataset: Path, stores: dict[tuple[str, str], Path]
) -> None:
    mixed = [stores["digits", "digits"], stores["other", "other"]]
    with pytest.raises(UserError, match="embeddings of other samples"):
        joint(tmp_path / "joint", [dataset], [mixed], "L1")
    shutil.rmtree(tmp_path / "joint")


def test_distillation__without_its_soft_term_is_plain_training(
    tmp_path: Path, dataset: Path, teachers: dict[str, Path]
) -> None:
    """Same initial weights, same order, same views: what remains of the loss is the cross-entropy with labels."""
    spec = cache_embeddings.Spec(levels=["L1"], views=RECIPE.epochs, augmentation=SHAKE, seed=0)
    upstream = {"teacher": teachers["digits"], "dataset": dataset}
    cache_embeddings.build(Context(spec, upstream, folder(tmp_path / "store")))
    options = mlfd.Options(soft_weight=0.0)
    taught = student(
        tmp_path / "student",
        dataset,
        teachers["digits"],
        [tmp_path / "store"],
        "L1",
        individual=True,
        views=RECIPE.epochs,
        distiller=(MLFD, options),
    )
    train_network(folder(tmp_path / "plain"), [dataset], MODEL, RECIPE, 0)
    plain, student_weights = (load_network(path).state_dict() for path in (tmp_path / "plain", taught))
    for name, value in plain.items():
        torch.testing.assert_close(student_weights[name], value, rtol=1e-4, atol=1e-5)
