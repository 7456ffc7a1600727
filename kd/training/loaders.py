"""A student on the batches of any torch `DataLoader`, with a teacher at work or a cache beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import DataLoader

from kd.common.errors import UserError
from kd.common.streams import torch_seed
from kd.data.loader import SubBatch
from kd.data.options import Task
from kd.data.order import view_of_epoch
from kd.distillers.base import Batch, Shapes
from kd.embeddings.cache import Cache, tell_epoch
from kd.embeddings.encoding import unpack_positives
from kd.embeddings.options import POSITIVES
from kd.models.devices import send
from kd.models.network import at_rest
from kd.models.outputs import Arrays
from kd.models.taps import Tapped
from kd.training.measuring import predict_batches
from kd.training.metrics import PRIMARY, primary
from kd.training.objective import Objective
from kd.training.recipe import Recipe
from kd.training.students import DistillationBatch, Student, compare

ValueT = TypeVar("ValueT")
Loader = DataLoader[Any]
"""Of batches (inputs, labels) or (inputs, labels, rows): inputs as the student takes them; labels (B,) int64, or
(B, classes) of 0 and 1; rows (B,) int64: which samples of the training split, counted from 0."""


class CachedTeacher:
    """A teacher whose outputs were stored."""

    def __init__(self, cache: Cache, names: Sequence[str], fabric: Fabric) -> None:
        self.cache, self.names, self.fabric = cache, names, fabric
        packed = "label_embeddings" in names and POSITIVES in cache.names
        self.stored = [POSITIVES if packed and name == "label_embeddings" else name for name in names]
        missing = [name for name in self.stored if name not in cache.names]
        if missing:
            raise UserError(f"teacher: {cache.directory} holds no {missing[0]}, but {', '.join(cache.names)}")

    def shapes(self, inputs: Tensor, classes: int) -> Shapes:  # noqa: ARG002
        """As they are stored; of embeddings of positive labels, as they are unpacked."""
        found = {name: self.cache.shapes[stored] for name, stored in zip(self.names, self.stored, strict=True)}
        return found | (
            {"label_embeddings": (classes, found["label_embeddings"][1])} if POSITIVES in self.stored else {}
        )

    def see(self, inputs: Tensor, labels: Tensor, rows: Tensor | None, epoch: int) -> Arrays:  # noqa: ARG002
        """What is stored of the view that belongs to an epoch."""
        if not self.names:
            return {}
        found = self.cache.read(rows, view_of_epoch(epoch, self.cache.views), self.stored)
        sent = {name: send(self.fabric, found[stored]) for name, stored in zip(self.names, self.stored, strict=True)}
        if POSITIVES in self.stored:
            sent["label_embeddings"] = unpack_positives(sent["label_embeddings"], labels)
        return sent


class LiveTeacher:
    """A teacher at work."""

    def __init__(self, teacher: nn.Module | None, names: Sequence[str], fabric: Fabric) -> None:
        self.names = names
        self.teacher = tapped(teacher, names).to(fabric.device) if names and teacher is not None else None

    def shapes(self, inputs: Tensor, classes: int) -> Shapes:  # noqa: ARG002
        """Found by looking at a batch."""
        return {} if self.teacher is None else self._wanted(self.teacher.shapes(inputs))

    def see(self, inputs: Tensor, labels: Tensor, rows: Tensor | None, epoch: int) -> Arrays:  # noqa: ARG002
        """What it makes of a batch."""
        if self.teacher is None:
            return {}
        with at_rest(self.teacher):
            return self._wanted(self.teacher(inputs))

    def _wanted(self, found: Mapping[str, ValueT]) -> dict[str, ValueT]:
        return {name: found[name] for name in self.names}


class LoaderDistillation(Objective):
    """A student that is trained on the batches of a loader.

    Args:
        student: with the loss.
        teacher: what gives the targets.
        train: batches to train on.
        val: batches to measure on, or None.
        task: what labels are.
        classes: their number.
        rows: that samples may have, from 0 up to this; None: rows are of no use.
        recipe, seed, fabric: see `Objective`.
    """

    AHEAD = False  # what datasets draw from torch's global generator must not depend on when they do

    def __init__(
        self,
        student: Student,
        teacher: CachedTeacher | LiveTeacher,
        train: Loader,
        val: Loader | None,
        task: Task,
        classes: int,
        rows: int | None,
        recipe: Recipe,
        seed: int,
        fabric: Fabric,
    ) -> None:
        super().__init__(student, recipe, seed, fabric)
        self.student, self.teacher, self.train, self.val, self.task = student, teacher, train, val, task
        self.classes, self.rows = classes, rows
        self.steps, self.metric = len(train), None if val is None else PRIMARY[task]

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[float, DistillationBatch]]:
        """The batches of the loader.

        With the first one, samplers draw the order of an epoch: under a seed of the epoch, wherever training goes on.
        The others are drawn under the seed of their step, which the training loop has set.
        """
        seed = torch_seed("order", self.seed, epoch)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # that of the CPU alone: those of GPUs have the seed of the step
            batches = begin_epoch(self.train, epoch, seed)
            drawn = next(batches)
            for _ in range(1, start):
                next(batches)
        for step in range(start, self.steps):
            if step > 0:
                drawn = next(batches)
            inputs, labels, rows = unpack(drawn)
            check_labels(labels, self.task, self.classes)
            self._check_rows(rows, len(labels))
            values = {"inputs": inputs, "labels": labels} | ({} if rows is None else {"rows": rows})
            count = len(labels)
            for part, (own,) in self.partition.of([SubBatch(np.arange(count), [values])]):
                yield part, self._make_batch(own.values[0], epoch, step, count)

    def _check_rows(self, rows: Tensor | None, count: int) -> None:
        least = 2 * self.recipe.accumulate
        if count < least:
            raise UserError(f"train: a batch has {count} samples, expected at least {least}; give it drop_last=True")
        if rows is not None and self.rows and not 0 <= int(rows.min()) <= int(rows.max()) < self.rows:
            raise UserError(
                f"train: rows {int(rows.min())} to {int(rows.max())}, expected some of 0 to {self.rows - 1}"
            )

    def _make_batch(self, values: dict[str, Tensor], epoch: int, step: int, count: int) -> DistillationBatch:
        rows = values.get("rows")
        seen, labels = (send(self.fabric, values[name]) for name in ("inputs", "labels"))
        targets = self.teacher.see(seen, labels, rows, epoch)
        (shown,), mix = self.mix([seen], epoch, step)
        at = None if rows is None else send(self.fabric, rows)
        drawn = torch_seed("loss", self.seed, epoch, step)
        return DistillationBatch(shown, targets, Batch(labels, at, epoch, count, drawn), mix)

    def compare(self, output: Arrays, batch: DistillationBatch) -> Tensor:
        """The loss of the method."""
        return compare(self.student.criterion, output, batch, self.fabric)

    def validate(self, module: nn.Module) -> float:
        """acc@1 or mAP."""
        assert isinstance(module, Student)
        assert self.val is not None
        batches = (unpack(each, "val")[:2] for each in begin_epoch(self.val, 0, torch_seed("order", self.seed, 0)))
        seen = ((send(self.fabric, inputs), labels) for inputs, labels in batches)
        logits, labels = predict_batches(module.network, seen)
        check_labels(labels, self.task, self.classes, "val")
        return primary(self.task, logits, labels, "the student in training on val")


def begin_epoch(loader: Loader, epoch: int, seed: int) -> Iterator[Any]:
    """The batches of an epoch: whatever has a `set_epoch` is told, and generators of the loader's own have a seed."""
    for each in (loader.dataset, loader.sampler, loader.batch_sampler):
        tell_epoch(each, epoch)
    for each in (loader, loader.sampler, loader.batch_sampler):
        if isinstance(getattr(each, "generator", None), torch.Generator):
            each.generator.manual_seed(seed)  # type: ignore[union-attr]
    return iter(loader)


def unpack(batch: Any, whose: str = "train") -> tuple[Tensor, Tensor, Tensor | None]:
    """Inputs, labels and perhaps rows of a batch of a loader; class ids as int64."""
    if isinstance(batch, tuple | list) and len(batch) in (2, 3) and all(isinstance(each, Tensor) for each in batch):
        inputs, labels, *rows = batch
        if all(len(each) == len(inputs) for each in (labels, *rows)):
            ids = labels.ndim == 1 and not labels.is_floating_point()
            return inputs, labels.long() if ids else labels, rows[0] if rows else None
    if isinstance(batch, Mapping):
        keys = ", ".join(map(str, batch))
        raise UserError(
            f"{whose}: a batch is a dict of {keys}; give the loader a collate_fn that makes (inputs, labels)"
        )
    parts = batch if isinstance(batch, tuple | list) else [batch]
    found = [tuple(each.shape) if isinstance(each, Tensor) else type(each).__name__ for each in parts]
    raise UserError(f"{whose}: a batch is {found}, expected tensors (inputs, labels) or (inputs, labels, rows)")


def task_of(labels: Tensor, whose: str) -> Task:
    """What labels are."""
    if labels.ndim == 1 and not labels.is_floating_point():
        return "single_label"
    if labels.ndim == 2:
        return "multi_label"
    found = f"{labels.dtype} of shape {tuple(labels.shape)}"
    raise UserError(f"labels: of {whose} are {found}, expected whole numbers (B,), or 0 and 1 (B, classes)")


def check_labels(labels: Tensor, task: Task, classes: int, whose: str = "train") -> None:
    """Raise UserError unless labels are (B,) class ids, or (B, classes) of 0 and 1, as the task has it."""
    if task_of(labels, whose) != task:
        raise UserError(f"labels: of {whose} have shape {tuple(labels.shape)}, but those of train are {task}")
    if task == "single_label":
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
            found = f"{int(labels.min())} to {int(labels.max())}"
            raise UserError(
                f"labels: of {whose} are {found}, expected 0 to {classes - 1}, as there are {classes} classes"
            )
    elif labels.shape[1] != classes or not ((labels == 0) | (labels == 1)).all():
        found = f"shape {tuple(labels.shape)}, values {labels.min():g} to {labels.max():g}"
        raise UserError(f"labels: of {whose} have {found}, expected 0 and 1 of shape (B, {classes})")


def first_batch(loader: Loader, whose: str) -> tuple[Tensor, Tensor, Tensor | None]:
    """A first batch, to see what there is; nothing that is drawn for it counts."""
    with torch.random.fork_rng(devices=[]):
        for batch in begin_epoch(loader, 0, 0):
            return unpack(batch, whose)
    raise UserError(f"{whose}: gives no batch")


def tapped(module: nn.Module, names: Sequence[str]) -> Tapped:
    """A module that gives arrays of these names."""
    return module.naming(names) if isinstance(module, Tapped) else Tapped(module, names)
