"""Training: it learns, it is reproducible, it goes on where it stopped, and frozen things stay frozen."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from kd.data.options import Augmentation, SplitOptions
from kd.data.packed import open_split
from kd.data.views import Views
from kd.distillers import mlfd
from kd.distillers.base import target_names
from kd.distillers.registry import load_distiller
from kd.embeddings.options import CacheOptions
from kd.jobs.errors import UserError
from kd.jobs.run import Context
from kd.models.alignment import AlignedStudent
from kd.models.network import Features
from kd.models.spec import LEVELS, Level, ModelSpec, cached_levels
from kd.models.weights import load_network, new_network
from kd.stages import cache_embeddings, cache_targets
from kd.training import live, loop
from kd.training.classification import Batch, Classification, classification_loss
from kd.training.distillation import Distillation
from kd.training.fusion import cached_embeddings, load_joint_teacher, train_joint_teacher
from kd.training.loop import make_fabric
from kd.training.optimisation import make_optimizer, make_schedule
from kd.training.recipe import Recipe
from kd.training.samples import ImageSamples, data_memory
from kd.training.students import distill_student
from kd.training.supervised import train_network
from kd.training.targets import CachedIndividual, StoredTargets
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


def embedding_spec(levels: tuple[Level, ...] = LEVELS, views: int = VIEWS) -> cache_embeddings.Spec:
    return cache_embeddings.Spec(levels=list(levels), views=views, augmentation=SHAKE, cache=CacheOptions(), seed=0)


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
    spec = embedding_spec()
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
    arguments: dict[str, Any] = {"student": MODEL, "width": 8, "dropout": 0.2, "recipe": RECIPE, "seed": 0}
    samples = options.pop("embeddings", None) or cached_embeddings(stores, level, VIEWS)
    train_joint_teacher(folder(directory), datasets, samples, level=level, **(arguments | options))
    return directory


def targets(directory: Path, dataset: Path, teacher: Path, stores: list[Path], level: Level) -> Path:
    """The joint teacher's targets for the views of `stores`."""
    names = [str(number) for number in range(len(stores))]
    spec = cache_targets.Spec(
        dataset="digits",
        level=level,
        teachers=names,
        arrays=target_names(level, MLFD, mlfd.Options()),
        views=VIEWS,
        augmentation=SHAKE,
        cache=CacheOptions(dtype="float32"),
        seed=0,
    )
    upstream = {f"embeddings:{name}": store for name, store in zip(names, stores, strict=True)}
    upstream |= {"dataset": dataset, "joint_teacher": teacher}
    cache_targets.build(Context(spec, upstream, folder(directory)))
    return directory


def student(directory: Path, dataset: Path, make_source: Any, **options: Any) -> Path:
    arguments: dict[str, Any] = {"model": MODEL, "views": VIEWS, "recipe": RECIPE, "seed": 0} | options
    arguments.setdefault("distiller", (MLFD, mlfd.Options()))
    distill_student(folder(directory), dataset, make_source, **arguments)
    return directory


def of_joint(directory: Path, dataset: Path, teacher: Path, stores: list[Path], level: Level) -> Any:
    """Source of a joint teacher's targets, which are stored first."""
    store = targets(directory, dataset, teacher, stores, level)
    names = target_names(level, MLFD, mlfd.Options())
    return lambda split, fabric, memory: StoredTargets(store, split, names, VIEWS, fabric, memory)


def of_individual(teacher: Path, store: Path, level: Level, views: int = VIEWS) -> Any:
    levels = cached_levels(level, individual=True)
    return lambda split, fabric, memory: CachedIndividual(teacher, store, split, levels, views, fabric, memory)


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
    source = of_joint(tmp_path / "targets", dataset, fused, own, "L2")
    taught = student(tmp_path / "student", dataset, source)
    die_after(2, monkeypatch)
    with pytest.raises(KilledError):
        joint(tmp_path / "joint_cut", [dataset], [own], "L2")
    joint(tmp_path / "joint_cut", [dataset], [own], "L2")
    assert same_weights(fused / "joint.safetensors", tmp_path / "joint_cut/joint.safetensors")
    die_after(4, monkeypatch)
    with pytest.raises(KilledError):
        student(tmp_path / "student_cut", dataset, source)
    student(tmp_path / "student_cut", dataset, source)
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
    source = of_joint(tmp_path / "targets", dataset, fused, own, level)
    taught = student(tmp_path / "student", dataset, source)
    assert losses(taught)[-1] < losses(taught)[0]
    again = student(tmp_path / "again", dataset, source)
    assert same_weights(taught / "model.safetensors", again / "model.safetensors")


def test_chain__shared_joint_teacher_and_foreign_student(
    tmp_path: Path, dataset: Path, other_dataset: Path, stores: dict[tuple[str, str], Path]
) -> None:
    """Scope shared: one T*, a head per dataset, maps that fit no student: projectors make up for it."""
    pairs = [[stores[teacher, name] for teacher in ("digits", "other")] for name in ("digits", "other")]
    fused = joint(tmp_path / "joint", [dataset, other_dataset], pairs, "L2", student=None)
    assert set(load_joint_teacher(fused).heads.datasets()) == {"digits", "other"}
    source = of_joint(tmp_path / "targets", dataset, fused, pairs[0], "L2")
    taught = student(tmp_path / "student", dataset, source, model=OTHER_MODEL)
    assert losses(taught)[-1] < losses(taught)[0]


@pytest.mark.parametrize("level", ["L1", "L2"])
def test_chain__single_dataset_distillation(
    tmp_path: Path, dataset: Path, teachers: dict[str, Path], stores: dict[tuple[str, str], Path], level: Level
) -> None:
    source = of_individual(teachers["digits"], stores["digits", "digits"], level)
    taught = student(tmp_path / "student", dataset, source)
    assert losses(taught)[-1] < losses(taught)[0]


def make_distillation(dataset: Path, make_source: Any) -> Distillation:
    fabric = make_fabric("32")
    memory = data_memory(fabric)
    torch.manual_seed(0)
    train, val = (open_split(dataset, name) for name in ("train", "val"))
    views = Views(train.info, 0, SHAKE)
    network = new_network(MODEL, [train.info], statistics=train.info)
    return Distillation(
        AlignedStudent(network, "digits", {"L2": (96, 1, 1)}),
        ImageSamples(train, views, fabric, memory, VIEWS),
        make_source(train, fabric, memory),
        ImageSamples(val, views, fabric, memory),
        (MLFD, mlfd.Options()),
        RECIPE,
        0,
        fabric,
    )


def test_distillation__gradients_reach_only_the_student(
    tmp_path: Path, dataset: Path, teachers: dict[str, Path], stores: dict[tuple[str, str], Path]
) -> None:
    """Also where the teachers are live; their batch-norm statistics do not move."""
    own = [stores["digits", "digits"], stores["other", "digits"]]
    fused = joint(tmp_path / "joint", [dataset], [own], "L2")
    task = make_distillation(dataset, live_targets(teachers, fused, "L2"))
    assert isinstance(task.source, live.LiveTargets)
    frozen = torch.nn.ModuleList([*task.source.teachers.networks, load_joint_teacher(fused)])
    before = {name: value.clone() for name, value in frozen.state_dict().items()}
    batch = next(task.batches(0))
    task.module.train()
    torch.autograd.backward(task.loss(task.module, batch))
    assert all(
        parameter.grad is None for network in task.source.teachers.networks for parameter in network.parameters()
    )
    missing = [name for name, parameter in task.module.named_parameters() if parameter.grad is None]
    assert not missing
    for name, value in frozen.state_dict().items():
        assert torch.equal(value, before[name]), name


def live_targets(teachers: dict[str, Path], fused: Path, level: Level) -> Any:
    def make(split: Any, fabric: Any, _: Any) -> live.LiveTargets:
        networks = live.LiveTeachers(list(teachers.values()), (level,), CacheOptions(), fabric)
        return live.LiveTargets(networks, fused, split.info.name, fabric, individual=False)

    return make


@pytest.mark.parametrize("level", ["L1", "L2", "L3"])
def test_distillation__stored_targets_are_those_of_live_teachers(
    tmp_path: Path, dataset: Path, teachers: dict[str, Path], stores: dict[tuple[str, str], Path], level: Level
) -> None:
    """In every epoch, what comes from the cache is what the teachers make of the pictures that the student sees."""
    own = [stores["digits", "digits"], stores["other", "digits"]]
    fused = joint(tmp_path / "joint", [dataset], [own], level)
    cached = make_distillation(dataset, of_joint(tmp_path / "targets", dataset, fused, own, level))
    exact = make_distillation(dataset, live_targets(teachers, fused, level))
    for epoch in (0, 1, 3):
        for one, other in zip(cached.batches(epoch), exact.batches(epoch), strict=True):
            assert torch.equal(one.images, other.images)
            assert torch.equal(one.labels, other.labels)
            torch.testing.assert_close(one.targets.logits, other.targets.logits, rtol=0.02, atol=0.02)
            assert list(one.targets.maps) == list(other.targets.maps)
            for name, value in one.targets.maps.items():
                torch.testing.assert_close(value, other.targets.maps[name], rtol=0.02, atol=0.02)


MIXED = RECIPE.model_copy(update={"mixup": 0.5, "cutmix": 0.5})


def test_mixing__networks_and_students_train_on_mixed_pictures(
    tmp_path: Path, dataset: Path, other_dataset: Path, teachers: dict[str, Path], stores: dict[tuple[str, str], Path]
) -> None:
    """Every second batch is blended, every other one pasted, on average; the same in each run."""
    for name in ("a", "b"):
        train_network(folder(tmp_path / name), [dataset, other_dataset], MODEL, MIXED, 0)
    assert losses(tmp_path / "a")[-1] < losses(tmp_path / "a")[0]
    assert same_weights(tmp_path / "a/network.safetensors", tmp_path / "b/network.safetensors")
    source = of_individual(teachers["digits"], stores["digits", "digits"], "L2")
    taught = student(tmp_path / "student", dataset, source, recipe=MIXED)
    assert losses(taught)[-1] < losses(taught)[0]
    assert losses(taught) != losses(student(tmp_path / "plain", dataset, source))


def test_mixing__partners_are_of_the_same_dataset(dataset: Path, other_dataset: Path) -> None:
    """Their labels belong to the same head: a mixture of a sample with itself is the sample."""
    fabric = make_fabric("32")
    splits = [open_split(path, "train") for path in (dataset, other_dataset)]
    samples = [ImageSamples(split, Views(split.info, 0, None), fabric, None) for split in splits]
    network = new_network(MODEL, [split.info for split in splits], statistics=splits[0].info)
    task = Classification(network, samples, samples, MIXED, 0, fabric)
    batch = next(task.batches(0))
    assert batch.mix is not None
    whole = replace(batch, mix=replace(batch.mix, coefficient=1.0))
    network.eval()
    unmixed = classification_loss(network(batch.inputs), batch)
    torch.testing.assert_close(task.loss(network, whole), unmixed)
    partners = replace(batch, mix=replace(batch.mix, coefficient=0.0))
    labels = torch.cat([batch.labels[rows].flip(0) for rows in batch.rows.values()])
    torch.testing.assert_close(
        task.loss(network, partners), classification_loss(network(batch.inputs), replace(batch, labels=labels))
    )


def test_chain__live_from_end_to_end(tmp_path: Path, dataset: Path, teachers: dict[str, Path]) -> None:
    embeddings = live.live_embeddings(list(teachers.values()), "L2", CacheOptions(), SHAKE, 0)
    fused = joint(tmp_path / "joint", [dataset], [], "L2", embeddings=embeddings)
    assert losses(fused)[-1] < losses(fused)[0]
    taught = student(tmp_path / "student", dataset, live_targets(teachers, fused, "L2"), views=None)
    assert losses(taught)[-1] < losses(taught)[0]


def test_fit__bf16_trains(tmp_path: Path, dataset: Path) -> None:
    recipe = RECIPE.model_copy(update={"precision": "bf16-mixed"})
    train_network(folder(tmp_path / "a"), [dataset], MODEL, recipe, 0)
    curve = losses(tmp_path / "a")
    assert curve[-1] < curve[0]


def test_pairing__a_store_of_other_samples_is_refused(
    tmp_path: Path, dataset: Path, stores: dict[tuple[str, str], Path]
) -> None:
    mixed = [stores["digits", "digits"], stores["other", "other"]]
    with pytest.raises(UserError, match=r"ids of split (train|val) are those of .* other samples"):
        joint(tmp_path / "joint", [dataset], [mixed], "L1")
    shutil.rmtree(tmp_path / "joint")


def test_distillation__without_its_soft_term_is_plain_training(
    tmp_path: Path, dataset: Path, teachers: dict[str, Path]
) -> None:
    """Same initial weights, same order, same views: what remains of the loss is the cross-entropy with labels."""
    upstream = {"teacher": teachers["digits"], "dataset": dataset}
    spec = embedding_spec(("L1",), RECIPE.epochs)
    cache_embeddings.build(Context(spec, upstream, folder(tmp_path / "store")))
    source = of_individual(teachers["digits"], tmp_path / "store", "L1", RECIPE.epochs)
    options = mlfd.Options(soft_weight=0.0)
    taught = student(tmp_path / "student", dataset, source, views=RECIPE.epochs, distiller=(MLFD, options))
    train_network(folder(tmp_path / "plain"), [dataset], MODEL, RECIPE, 0)
    plain, student_weights = (load_network(path).state_dict() for path in (tmp_path / "plain", taught))
    for name, value in plain.items():
        torch.testing.assert_close(student_weights[name], value, rtol=1e-4, atol=1e-5)
