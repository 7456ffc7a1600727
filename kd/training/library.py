"""Trainings of networks and data that a program holds in memory, by the same loop as those of the workflow."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.utils.data import DataLoader

from kd.common.errors import UserError, first_mistake
from kd.common.streams import torch_seed
from kd.data.loader import MemoryBudget
from kd.data.modalities.base import Modality
from kd.data.options import Task
from kd.data.packed import DatasetInfo, Labelled
from kd.distillers.base import Distiller
from kd.distillers.criterion import DistillationLoss
from kd.distillers.registry import create_method
from kd.embeddings.cache import KEPT_BYTES, OWN, Cache, Views, check_alike, tell_epoch
from kd.models.devices import one_device
from kd.models.joint import JointConfig, JointTeacher
from kd.models.network import Network
from kd.models.spec import LEVELS, LabelEncoderOptions, Level, map_levels
from kd.models.taps import Tapped
from kd.training.cached_embeddings import CachedSamples
from kd.training.loaders import (
    CachedTeacher,
    LiveTeacher,
    Loader,
    LoaderDistillation,
    check_labels,
    first_batch,
    tapped,
    task_of,
)
from kd.training.loop import finish, fit
from kd.training.objective import Objective
from kd.training.recipe import Recipe
from kd.training.students import Student
from kd.training.supervised import Classification

IMAGES = 4  # dimensions of a batch of images, at least
History = list[dict[str, float]]
"""One row for each epoch: `epoch`, `loss`, `seconds`, and `val_acc@1` or `val_mAP` in percent where val is given."""


def distill_student(
    student: nn.Module,
    teacher: nn.Module | Cache | None,
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

    The student ends with the weights that the recipe selects, in eval mode, on the device. The teacher is moved there,
    too. Views are those of `train`: before each epoch its dataset, those inside it, its sampler and its batch sampler
    get `set_epoch(epoch)`, if they have it. A cache of V views gives in epoch e those of view e modulo V. The dataset
    has to show that view, as `Views` does.

    Steps draw from torch's global generator, which is seeded before each of them. So is the shuffling of `train`, also
    by a generator of its own. What is trained beside the student is initialised from the global generator as the caller
    left it. With the same seed, student, teacher, data and state of the generator, the weights are the same. Whatever
    draws from generators that are not torch's has to be seeded by the caller.

    Args:
        student: any module that maps inputs to logits (B, classes); or a `Tapped` one, where the method compares more.
        teacher: of the same kind, which looks at what the student is given; or a cache, of which `train` gives the
            rows; or None for a method that needs none (vanilla). Its weights stay as they are.
        train: training samples.
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
    if not isinstance(chosen, Distiller):
        raise UserError(f"method: {chosen!r}, expected the name of a method, or what create_method gives")
    inputs, labels, rows = first_batch(train, "train")
    task = task_of(labels, "train")
    _check(chosen, level, recipe, task, inputs, measured=val is not None)
    names = chosen.required(level).names()
    _check_batches(train, recipe)
    by_row = isinstance(teacher, Cache) or chosen.REMEMBERS_SAMPLES
    if rows is None and by_row:
        raise UserError(
            "train: its batches are (inputs, labels), expected (inputs, labels, rows): which samples they are"
        )
    if isinstance(teacher, Cache):
        _check_views(train, teacher)
        samples = len(teacher)
    fabric = one_device(str(device), recipe.precision)
    network = tapped(student, ("logits", *names)).to(fabric.device)
    _check_teacher(teacher, network, names)
    source = (
        CachedTeacher(teacher, names, fabric) if isinstance(teacher, Cache) else LiveTeacher(teacher, names, fabric)
    )
    _check_network(recipe, network)
    example = inputs[:2].to(fabric.device)
    student_shapes = network.shapes(example)
    (classes,) = student_shapes["logits"]
    teacher_shapes = source.shapes(example, classes)
    if "logits" in teacher_shapes and teacher_shapes["logits"] != (classes,):
        raise UserError(
            f"teacher: gives logits of {teacher_shapes['logits'][0]} classes, but the student has {classes}"
        )
    if val is not None:
        _check_loader(val, "val")
        check_labels(first_batch(val, "val")[1], task, classes, "val")
    trained = Student(network, DistillationLoss(chosen, student_shapes, teacher_shapes, samples))
    objective = LoaderDistillation(
        trained, source, train, val, task, classes, samples if by_row else None, recipe, seed, fabric
    )
    history = _run(objective, directory, {"method": chosen.model_dump(mode="json"), "level": level})
    student.eval()
    return history


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
    if level not in LEVELS:
        raise UserError(f"level: {level!r}, expected one of {', '.join(LEVELS)}")
    check_alike(embeddings, level)
    shapes = [each.shapes[level] for each in embeddings]
    fabric = one_device(str(device), recipe.precision)
    parts = {"train": (embeddings, labels)} | ({} if val is None else {"val": val})
    given = np.asarray(torch.as_tensor(labels).cpu())
    task = task_of(torch.from_numpy(given), "train")
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
        check_labels(found, task, count, name)
        if [each.shapes[level] for each in caches] != shapes:
            raise UserError(f"{name}: its caches have other teachers than those of train, or in another order")
        split = Labelled(info, caches[0].split, found.long().numpy(), caches[0].ids)
        return CachedSamples(split, [each.directory for each in caches], (level,), None, fabric, memory)

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
    _run(objective, directory, {"joint_teacher": config.model_dump(mode="json")})
    return joint.eval()


def _run(objective: Objective, directory: Path | str | None, made_of: dict[str, Any]) -> History:
    """Train, and leave the module with the weights that the recipe selects; `made_of`: what tells trainings apart."""
    recipe, place = objective.recipe, None if directory is None else Path(directory)
    told = made_of | {"recipe": recipe.model_dump(mode="json"), "seed": objective.seed, "steps": objective.steps}
    objective.identity = json.dumps(told)
    if place is not None:
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"directory: {place} cannot be made ({error.strerror})") from error
    trained = fit(objective, place)
    objective.module.load_state_dict(trained.weights[recipe.selection])
    if place is not None:
        finish(place)
    return trained.history


def _length(loader: Loader) -> int:
    """Samples in the dataset of a loader."""
    _check_loader(loader, "train")
    try:
        return len(loader.dataset)  # type: ignore[arg-type]
    except TypeError as error:
        raise UserError("train: its dataset has no length, expected one with `__len__` and `__getitem__`") from error


def _check_loader(loader: object, whose: str) -> None:
    if not isinstance(loader, DataLoader):
        raise UserError(f"{whose}: {type(loader).__name__}, expected a DataLoader")


def _check(
    method: Distiller, level: Level | None, recipe: Recipe, task: Task, inputs: Tensor, *, measured: bool
) -> None:
    """Raise UserError where these do not fit together."""
    _check_recipe(recipe, measured=measured)
    if level is not None and level not in LEVELS:
        raise UserError(f"level: {level!r}, expected one of {', '.join(LEVELS)}")
    if level is not None and not method.NEEDS_LEVEL:
        raise UserError(f"level: given {level}, but method {method.name} says itself what it compares; leave it out")
    if task not in method.TASKS:
        raise UserError(f"method {method.name}: is for {' and '.join(method.TASKS)} data, but labels are {task}")
    if method.REMEMBERS_SAMPLES and (recipe.mixup or recipe.cutmix):
        raise UserError(f"method {method.name}: remembers each sample, so recipe mixup and cutmix have to be 0")
    if recipe.cutmix and inputs.ndim < IMAGES:
        raise UserError(f"recipe cutmix: {recipe.cutmix}, but inputs are {tuple(inputs.shape)}, expected images")


def _check_teacher(teacher: nn.Module | Cache | None, student: Tapped, names: Sequence[str]) -> None:
    if not names or isinstance(teacher, Cache):
        return
    if not isinstance(teacher, nn.Module):
        raise UserError(
            f"teacher: {type(teacher).__name__}, expected a module or a Cache that gives {', '.join(names)}"
        )
    if isinstance(getattr(teacher, "module", teacher), JointTeacher):
        raise UserError("teacher: a JointTeacher takes embeddings; give a FusedTeacher of it and its teachers")
    if {id(each) for each in teacher.parameters()} & {id(each) for each in student.parameters()}:
        raise UserError("teacher: shares weights with the student, which are trained; give a copy")


def _check_recipe(recipe: Recipe, *, measured: bool) -> None:
    if not isinstance(recipe, Recipe):
        raise UserError(f"recipe: {type(recipe).__name__}, expected a Recipe")
    if recipe.augmentation is not None:
        raise UserError("recipe augmentation: given, but views are those of the loader or cache; leave it out")
    if recipe.selection == "best_val" and not measured:
        raise UserError("recipe selection: best_val, but no val is given; give val, or selection='last'")


def _check_network(recipe: Recipe, network: Tapped) -> None:
    """What the recipe says of heads and batch norms is known of networks of this package alone."""
    if isinstance(network.module, Network):
        return
    for name, asked in (("head_lr", recipe.head_lr != 1), ("freeze_norm", recipe.freeze_norm != "none")):
        if asked:
            raise UserError(f"recipe {name}: is for a Network, see create_network; the student is another module")


def _check_batches(train: Loader, recipe: Recipe) -> None:
    size, least = train.batch_size, 2 * recipe.accumulate
    if size is None:  # a batch sampler says it
        return
    if size != recipe.batch_size:
        raise UserError(f"recipe batch_size: {recipe.batch_size}, but batches of train have {size}")
    rest = len(train.sampler) % size  # type: ignore[arg-type]
    if not train.drop_last and 0 < rest < least:
        raise UserError(
            f"train: its last batch has {rest} samples, expected at least {least}; give the loader drop_last=True"
        )


def _check_views(train: Loader, cache: Cache) -> None:
    """The loader shows the views that the cache is of, as far as that can be seen."""
    for each in _views_in(train.dataset):
        if (len(each.views), len(each)) != (cache.views, len(cache)):
            found = f"{len(each.views)} views of {len(each)} samples"
            raise UserError(f"train: shows {found}, but {cache.directory} has {cache.views} of {len(cache)}")
    if cache.views == 1:
        return
    listens = [tell_epoch(each, 0) for each in (train.dataset, train.sampler, train.batch_sampler)]
    if not any(listens):
        raise UserError(
            f"train: {cache.directory} has {cache.views} views, but nothing in the loader has a set_epoch, by which it"
            " would show the view of an epoch; see Views"
        )
    if train.persistent_workers:
        raise UserError("train: persistent_workers is on, but these would show the first view only; leave it out")


def _views_in(dataset: Any) -> Iterator[Views]:
    """Each `Views` that is the dataset, or inside it."""
    if isinstance(dataset, Views):
        yield dataset
    for each in (getattr(dataset, "dataset", None), *getattr(dataset, "datasets", ())):
        if each is not None:
            yield from _views_in(each)
