"""Trainings of networks and data that a program holds in memory, by the same loop as those of the workflow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from kd.common.errors import UserError, first_mistake
from kd.common.streams import torch_seed
from kd.data.loader import MemoryBudget
from kd.data.modalities.base import Modality
from kd.data.options import Task
from kd.data.packed import DatasetInfo, Labelled
from kd.distillers.base import Distiller
from kd.distillers.criterion import DistillationLoss
from kd.distillers.registry import create_method
from kd.embeddings.cache import KEPT_BYTES, OWN, Cache, check_alike
from kd.models.devices import one_device
from kd.models.joint import JointConfig, JointTeacher
from kd.models.spec import LabelEncoderOptions, Level, map_levels
from kd.training.cached_embeddings import CachedSamples
from kd.training.loaders import (
    CachedTeacher,
    LiveTeacher,
    Loader,
    LoaderDistillation,
    check_labels,
    first_batch,
    tapped,
)
from kd.training.loop import finish, fit
from kd.training.objective import Objective
from kd.training.recipe import Recipe
from kd.training.students import Student
from kd.training.supervised import Classification

ValueT = TypeVar("ValueT")
IMAGES = 4  # dimensions of a batch of images, at least
History = list[dict[str, float]]
"""One row for each epoch: `epoch`, `loss`, `seconds`, and `val_acc@1` or `val_mAP` in percent where val is given."""


def distill_student(
    student: nn.Module,
    teacher: nn.Module | Cache,
    train: Loader,
    method: Distiller | str,
    recipe: Recipe,
    *,
    level: Level | None = None,
    val: Loader | None = None,
    seed: int = 0,
    directory: Path | str | None = None,
    device: str = "auto",
) -> History:
    """Train a student held in memory with the soft targets of a teacher.

    The student ends with the weights that the recipe selects, on the device that it was trained on. Views are those
    of `train`: before each epoch its dataset, sampler and batch sampler get `set_epoch(epoch)`, if they have it. A
    cache of V views gives in epoch e those of view e modulo V, so the dataset has to show that view.

    Steps draw from torch's global generator, which is seeded before each of them, as is the shuffling of `train`. What
    is trained beside the student is initialised from that generator as the caller left it. So with the same seed,
    student, teacher, data and state of the generator, the weights are the same.

    Args:
        student: any module that maps inputs to logits (B, classes); or a `Tapped` one, where the method compares more.
        teacher: of the same kind, which looks at what the student is given; or a cache, of which `train` gives the
            rows. Its weights stay as they are.
        train: training samples. With workers that persist, `set_epoch` does not reach their copies of the dataset.
        method: with its options, or its name.
        recipe: optimiser, schedule and more, without augmentation.
        level: how deep maps are compared, for methods that leave that open (mlfd).
        val: validation samples, measured after each epoch; None: the recipe has to select the last weights.
        seed: of order, dropout and whatever the method draws.
        directory: gets a checkpoint while it trains, from which the same call goes on, and history.csv; None: neither.
        device: auto, cpu, cuda, or one such as cuda:1.

    Raises:
        UserError: these do not fit together, or training diverged.

    Examples:
        >>> import kd, timm, torch
        >>> images, labels = torch.rand(64, 3, 32, 32), torch.arange(64) % 5
        >>> student, teacher = (timm.create_model(name, num_classes=5) for name in ("test_efficientnet", "test_resnet"))
        >>> train = torch.utils.data.DataLoader(kd.Views(images, labels), batch_size=32, shuffle=True)
        >>> recipe = kd.Recipe(lr=1e-3, epochs=2, batch_size=32, selection="last")
        >>> history = kd.distill_student(student, teacher, train, "dkd", recipe, device="cpu")
        >>> [row["epoch"] for row in history]
        [0, 1]
    """
    samples = _length(train)
    chosen = create_method(method) if isinstance(method, str) else method
    names = chosen.required(level).names()
    if level is not None and not chosen.NEEDS_LEVEL:
        raise UserError(f"level: given {level}, but method {chosen.name} says itself what it compares; leave it out")
    inputs, labels, rows = first_batch(train)
    task = _task(labels)
    _check(chosen, recipe, task, measured=val is not None)
    _check_batches(train, recipe, samples)
    if rows is None and (isinstance(teacher, Cache) or chosen.REMEMBERS_SAMPLES):
        raise UserError(
            "train: its batches are (inputs, labels), expected (inputs, labels, rows): which samples these are"
        )
    if recipe.cutmix and inputs.ndim < IMAGES:
        raise UserError(f"recipe cutmix: {recipe.cutmix}, but inputs are {tuple(inputs.shape)}, expected images")
    fabric = one_device(device, recipe.precision, training=True)
    network = tapped(student, ("logits", *names)).to(fabric.device)
    source = (
        CachedTeacher(teacher, names, fabric) if isinstance(teacher, Cache) else LiveTeacher(teacher, names, fabric)
    )
    example = inputs[:2].to(fabric.device)
    shapes = network.shapes(example), source.shapes(example)
    wanted, found = (each.get("logits", shapes[0]["logits"])[0] for each in shapes)
    if wanted != found:
        raise UserError(f"teacher: gives logits of {found} classes, but the student has {wanted}")
    trained = Student(network, DistillationLoss(chosen, *shapes, samples))
    objective = LoaderDistillation(trained, source, train, val, task, wanted, recipe, seed, fabric)
    return _run(objective, None if directory is None else Path(directory))


def train_joint_teacher(
    embeddings: Sequence[Cache],
    labels: Tensor | np.ndarray,
    recipe: Recipe,
    *,
    level: Level = "L1",
    classes: int | None = None,
    map_channels: Sequence[int] = (),
    width: int = 512,
    dropout: float = 0.5,
    label_encoder: LabelEncoderOptions | None = None,
    val: tuple[Sequence[Cache], Tensor | np.ndarray] | None = None,
    seed: int = 0,
    directory: Path | str | None = None,
    device: str = "auto",
) -> JointTeacher:
    """Train a joint teacher on what several teachers see in the same samples (MLFD).

    Args:
        embeddings: a cache by each teacher, of the same samples and views, with arrays of `level`.
        labels: (N,) class ids, or (N, classes) of 0 and 1, in the order of the caches' rows.
        recipe: optimiser, schedule and more, without augmentation, mixup and cutmix.
        level: at which the teachers are fused: L1, vectors; L2 to L4, maps.
        classes: their number; None: one more than the largest label.
        map_channels: channels of the distilled maps, shallow to deep, of which there is none at L1, one at L2, two at
            L3 and three at L4; best those of the student's maps of these levels. Empty: `width` each.
        width: channels of the adaptors, from L2 on.
        dropout: before the classifier, or the label encoder.
        label_encoder: of multi-label samples, from L2 on: an embedding for each label.
        val: caches and labels of validation samples, measured after each epoch; None: the recipe has to select the last
            weights.
        seed: of initial weights, order and dropout.
        directory: as of `distill_student`.
        device: as of `distill_student`.

    Returns:
        The joint teacher, in eval mode.

    Raises:
        UserError: these do not fit together, or training diverged.

    Examples:
        >>> import kd, tempfile, timm, torch
        >>> images, labels, caches = torch.rand(64, 3, 32, 32), torch.arange(64) % 5, []
        >>> folder = tempfile.mkdtemp()
        >>> for name in ("test_resnet", "test_efficientnet"):
        ...     teacher = kd.Tapped(timm.create_model(name, num_classes=5), ("L1",))
        ...     caches.append(kd.cache_embeddings(f"{folder}/{name}", teacher, images, device="cpu"))
        >>> recipe = kd.Recipe(lr=1e-3, epochs=2, batch_size=32, selection="last")
        >>> joint = kd.train_joint_teacher(caches, labels, recipe, device="cpu")
        >>> joint.config.channels
        [96, 256]
    """
    check_alike(embeddings, level)
    fabric = one_device(device, recipe.precision, training=True)
    parts = {"train": (embeddings, labels)} | ({} if val is None else {"val": val})
    given = np.asarray(torch.as_tensor(labels).cpu())
    task = _task(torch.from_numpy(given))
    _check_recipe(recipe, measured=val is not None)
    if recipe.mixup or recipe.cutmix:
        raise UserError("recipe mixup and cutmix: mix images, but embeddings are no images; leave them out")
    count = classes or (given.shape[1] if task == "multi_label" else int(given.max()) + 1)
    most = int(given.sum(axis=1).max()) if given.ndim == 2 else 1
    sizes = {name: len(each) for name, (_, each) in parts.items()}
    info = DatasetInfo(OWN, tuple(map(str, range(count))), Modality(), (), (), sizes, task, most)
    memory = MemoryBudget(fabric.to_device, KEPT_BYTES)

    def samples(name: str) -> CachedSamples:
        caches, own = parts[name]
        check_alike(caches, level)
        found = torch.as_tensor(own).cpu()
        if len(found) != len(caches[0]):
            raise UserError(f"{name}: {len(found)} labels, expected those of {len(caches[0])} samples")
        check_labels(found, count)
        split = Labelled(info, caches[0].split, found.numpy(), caches[0].ids)
        return CachedSamples(split, [each.directory for each in caches], (level,), None, fabric, memory)

    shapes = [each.shapes[level] for each in embeddings]
    levels = map_levels(level)
    torch.manual_seed(torch_seed("weights", seed))
    try:
        config = JointConfig(
            level=level,
            channels=[shape[0] for shape in shapes],
            grid=(max(shape[1] for shape in shapes), max(shape[2] for shape in shapes)) if levels else None,
            map_channels=list(map_channels) or [width] * len(levels),
            width=width,
            dropout=dropout,
            heads={OWN: count},
            label_encoder=label_encoder,
        )
    except ValidationError as error:
        raise UserError(f"joint teacher: {' '.join(first_mistake(error)).strip()}") from error
    joint = JointTeacher(config)
    parts_of = {name: [samples(name)] for name in parts}
    objective = Classification(joint, parts_of["train"], parts_of.get("val", []), recipe, seed, fabric)
    _run(objective, None if directory is None else Path(directory))
    return joint.eval()


def _run(objective: Objective, directory: Path | None) -> History:
    """Train, and leave the module with the weights that the recipe selects."""
    if directory is not None:
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"directory: {directory} cannot be made ({error.strerror})") from error
    trained = fit(objective, directory)
    objective.module.load_state_dict(trained.weights[objective.recipe.selection])
    if directory is not None:
        finish(directory)
    return trained.history


def _task(labels: Tensor) -> Task:
    """What labels are."""
    if labels.ndim == 1 and not labels.is_floating_point():
        return "single_label"
    if labels.ndim == 2:
        return "multi_label"
    raise UserError(
        f"labels: {labels.dtype} of shape {tuple(labels.shape)}, expected whole numbers (B,), or 0 and 1 (B, classes)"
    )


def _length(loader: Loader) -> int:
    """Samples in the dataset of a loader."""
    try:
        return len(loader.dataset)  # type: ignore[arg-type]
    except TypeError as error:
        raise UserError("train: its dataset has no length, expected one with `__len__` and `__getitem__`") from error


def _check(method: Distiller, recipe: Recipe, task: Task, *, measured: bool) -> None:
    """Raise UserError where these do not fit together."""
    _check_recipe(recipe, measured=measured)
    if task not in method.TASKS:
        raise UserError(f"method {method.name}: is for {' and '.join(method.TASKS)} data, but labels are {task}")
    if method.REMEMBERS_SAMPLES and (recipe.mixup or recipe.cutmix):
        raise UserError(f"method {method.name}: remembers each sample, so recipe mixup and cutmix have to be 0")


def _check_batches(train: Loader, recipe: Recipe, samples: int) -> None:
    size, least = train.batch_size, 2 * recipe.accumulate
    if size is None:  # a batch sampler says it
        return
    if size != recipe.batch_size:
        raise UserError(f"recipe batch_size: {recipe.batch_size}, but batches of train have {size}")
    if not train.drop_last and 0 < samples % size < least:
        raise UserError(
            f"train: its last batch has {samples % size} samples, expected at least {least}; give the loader"
            " drop_last=True"
        )


def _check_recipe(recipe: Recipe, *, measured: bool) -> None:
    if recipe.augmentation is not None:
        raise UserError("recipe augmentation: given, but views are those of the loader or cache; leave it out")
    if recipe.selection == "best_val" and not measured:
        raise UserError("recipe selection: best_val, but no val is given; give val, or selection='last'")
