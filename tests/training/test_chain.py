"""From embeddings to students: views and targets belong together, and frozen things stay frozen."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kd.common.errors import UserError
from kd.data.packed import open_split
from kd.data.views import Views
from kd.distillers.criterion import DistillationLoss
from kd.jobs.run import Context
from kd.models.devices import make_fabric
from kd.models.joint import load_joint_teacher
from kd.models.network import tap_shapes
from kd.models.spec import Level
from kd.models.taps import Tapped
from kd.models.weights import load_network, new_network
from kd.stages import cache_embeddings
from kd.training import live_teachers
from kd.training.samples import ViewedSamples, data_memory
from kd.training.students import Distillation, Student, target_source
from kd.training.supervised import Classification, classification_loss, train_network
from tests.training.chain import (
    MLFD,
    MODEL,
    OTHER_MODEL,
    RECIPE,
    SHAKE,
    VIEWS,
    Source,
    embedding_spec,
    folder,
    joint,
    losses,
    of_joint,
    of_live,
    of_store,
    same_weights,
    student,
    student_spec,
)


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
    tmp_path: Path, dataset: Path, stores: dict[tuple[str, str], Path], level: Level
) -> None:
    source = of_store(stores["digits", "digits"], level)
    taught = student(tmp_path / "student", dataset, source)
    assert losses(taught)[-1] < losses(taught)[0]


def make_distillation(dataset: Path, source: Source) -> Distillation:
    upstream, spec = source[0], student_spec(**source[1])
    names = MLFD.required(spec.level).names()
    fabric = make_fabric("32")
    memory = data_memory(fabric)
    torch.manual_seed(0)
    train, val = (open_split(dataset, name) for name in ("train", "val"))
    views = Views("shared", train.info.name, 0, SHAKE)
    network = new_network(MODEL, [train.info])
    targets = target_source(spec, upstream, names, train, fabric, memory)
    loss = DistillationLoss(MLFD, tap_shapes(network, names, "digits"), targets.shapes(), len(train.ids))
    return Distillation(
        Student(Tapped(network, ("logits", *names)), loss),
        ViewedSamples(train, views, fabric, memory, VIEWS),
        targets,
        ViewedSamples(val, views, fabric, memory),
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
    task = make_distillation(dataset, of_live(teachers, fused, "L2"))
    assert isinstance(task.source, live_teachers.LiveTargets)
    assert task.source.joint is not None
    frozen = torch.nn.ModuleList([*task.source.teachers.networks, task.source.joint])
    before = {name: value.clone() for name, value in frozen.state_dict().items()}
    _, batch = next(task.batches(0))
    task.module.train()
    torch.autograd.backward(task.loss(task.module, batch))
    assert all(
        parameter.grad is None for network in task.source.teachers.networks for parameter in network.parameters()
    )
    missing = [name for name, parameter in task.module.named_parameters() if parameter.grad is None]
    assert not missing
    for name, value in frozen.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("level", ["L1", "L2", "L3"])
def test_distillation__stored_targets_are_those_of_live_teachers(
    tmp_path: Path, dataset: Path, teachers: dict[str, Path], stores: dict[tuple[str, str], Path], level: Level
) -> None:
    """In every epoch, what comes from the cache is what the teachers make of the images that the student sees."""
    own = [stores["digits", "digits"], stores["other", "digits"]]
    fused = joint(tmp_path / "joint", [dataset], [own], level)
    cached = make_distillation(dataset, of_joint(tmp_path / "targets", dataset, fused, own, level))
    exact = make_distillation(dataset, of_live(teachers, fused, level))
    for epoch in (0, 1, 3):
        for (_, one), (_, other) in zip(cached.batches(epoch), exact.batches(epoch), strict=True):
            assert torch.equal(one.inputs, other.inputs)
            assert torch.equal(one.samples.labels, other.samples.labels)
            stored, made = one.targets, other.targets
            assert list(stored) == list(made)
            for name, value in stored.items():
                torch.testing.assert_close(value, made[name], rtol=0.02, atol=0.02)


MIXED = RECIPE.model_copy(update={"mixup": 0.5, "cutmix": 0.5})


def test_mixing__networks_and_students_train_on_mixed_images(
    tmp_path: Path, dataset: Path, other_dataset: Path, stores: dict[tuple[str, str], Path]
) -> None:
    """Every second batch is blended, every other one pasted, on average; the same in each run."""
    for name in ("a", "b"):
        train_network(folder(tmp_path / name), [dataset, other_dataset], MODEL, MIXED, 0)
    assert losses(tmp_path / "a")[-1] < losses(tmp_path / "a")[0]
    assert same_weights(tmp_path / "a/network.safetensors", tmp_path / "b/network.safetensors")
    source = of_store(stores["digits", "digits"], "L2")
    taught = student(tmp_path / "student", dataset, source, recipe=MIXED)
    assert losses(taught)[-1] < losses(taught)[0]
    assert losses(taught) != losses(student(tmp_path / "plain", dataset, source))


def test_mixing__partners_are_of_the_same_dataset(dataset: Path, other_dataset: Path) -> None:
    """Their labels belong to the same head: a mixture of a sample with itself is the sample."""
    fabric = make_fabric("32")
    splits = [open_split(path, "train") for path in (dataset, other_dataset)]
    samples = [ViewedSamples(split, Views("shared", split.info.name, 0, None), fabric, None) for split in splits]
    network = new_network(MODEL, [split.info for split in splits])
    task = Classification(network, samples, samples, MIXED, 0, fabric)
    _, batch = next(task.batches(0))
    assert batch.mix is not None
    whole = replace(batch, mix=replace(batch.mix, coefficient=1.0))
    network.eval()
    unmixed = classification_loss(network(batch.inputs), batch)
    torch.testing.assert_close(task.loss(network, whole), unmixed)
    partners = replace(batch, mix=replace(batch.mix, coefficient=0.0))
    torch.testing.assert_close(task.loss(network, partners), classification_loss(network(batch.inputs), batch.flip()))


def test_chain__live_from_end_to_end(tmp_path: Path, dataset: Path, teachers: dict[str, Path]) -> None:
    fused = joint(tmp_path / "joint", [dataset], [], "L2", list(teachers.values()))
    assert losses(fused)[-1] < losses(fused)[0]
    taught = student(tmp_path / "student", dataset, of_live(teachers, fused, "L2"))
    assert losses(taught)[-1] < losses(taught)[0]


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
    """Same initial weights, same order, same images: what remains of the loss is the cross-entropy with labels."""
    upstream = {"teacher": teachers["digits"], "dataset": dataset}
    spec = embedding_spec(("logits",), RECIPE.epochs)
    cache_embeddings.build(Context(spec, upstream, folder(tmp_path / "store")))
    source = of_store(tmp_path / "store", "L1", RECIPE.epochs)
    method = {"name": "mlfd", "soft_weight": 0.0}
    recipe = RECIPE.model_copy(update={"augmentation": None})  # views of students are not those of teachers
    taught = student(tmp_path / "student", dataset, source, distiller=method, recipe=recipe)
    train_network(folder(tmp_path / "plain"), [dataset], MODEL, recipe, 0)
    plain, student_weights = (load_network(path).state_dict() for path in (tmp_path / "plain", taught))
    for name, value in plain.items():
        torch.testing.assert_close(student_weights[name], value, rtol=1e-4, atol=1e-5)
