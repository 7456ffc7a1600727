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
from kd.embeddings.cache import Cache
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
        missing = [name for name in names if name not in cache.names]
        if missing:
            raise UserError(f"teacher: {cache.directory} holds no {missing[0]}, but {', '.join(cache.names)}")

    def shapes(self, inputs: Tensor) -> Shapes:  # noqa: ARG002
        """As they are stored."""
        return {name: self.cache.shapes[name] for name in self.names}

    def see(self, inputs: Tensor, rows: Tensor | None, epoch: int) -> Arrays:  # noqa: ARG002
        """What is stored of the view that belongs to an epoch."""
        found = self.cache.read(rows, view_of_epoch(epoch, self.cache.views), self.names) if self.names else {}
        return {name: send(self.fabric, value) for name, value in found.items()}


class LiveTeacher:
    """A teacher at work."""

    def __init__(self, teacher: nn.Module, names: Sequence[str], fabric: Fabric) -> None:
        self.names = names
        self.teacher = tapped(teacher, names).to(fabric.device) if names else None

    def shapes(self, inputs: Tensor) -> Shapes:
        """Found by looking at a batch."""
        return {} if self.teacher is None else self._wanted(self.teacher.shapes(inputs))

    def see(self, inputs: Tensor, rows: Tensor | None, epoch: int) -> Arrays:  # noqa: ARG002
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
        recipe: Recipe,
        seed: int,
        fabric: Fabric,
    ) -> None:
        super().__init__(student, recipe, seed, fabric)
        self.student, self.teacher, self.train, self.val, self.task = student, teacher, train, val, task
        self.classes = classes
        self.steps, self.metric = len(train), None if val is None else PRIMARY[task]

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[float, DistillationBatch]]:
        """The batches of the loader.

        With the first one, samplers draw the order of an epoch: under a seed of the epoch, wherever training goes on.
        The others are drawn under the seed of their step, which the training loop has set.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_seed("order", self.seed, epoch))
            batches = begin_epoch(self.train, epoch)
            drawn = next(batches)
            for _ in range(1, start):
                next(batches)
        for step in range(start, self.steps):
            if step > 0:
                drawn = next(batches)
            inputs, labels, rows = unpack(drawn)
            check_labels(labels, self.classes)
            values = {"inputs": inputs, "labels": labels} | ({} if rows is None else {"rows": rows})
            count = len(labels)
            for part, (own,) in self.partition.of([SubBatch(np.arange(count), [values])]):
                yield part, self._make_batch(own.values[0], epoch, step, count)

    def _make_batch(self, values: dict[str, Tensor], epoch: int, step: int, count: int) -> DistillationBatch:
        rows = values.get("rows")
        seen, labels = (send(self.fabric, values[name]) for name in ("inputs", "labels"))
        targets = self.teacher.see(seen, rows, epoch)
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
        batches = ((send(self.fabric, each[0]), each[1]) for each in self.val)
        return primary(self.task, *predict_batches(module.network, batches), "the student in training on val")


def tapped(module: nn.Module, names: Sequence[str]) -> Tapped:
    """A module that gives arrays of these names."""
    return module.naming(names) if isinstance(module, Tapped) else Tapped(module, names)


def begin_epoch(loader: Loader, epoch: int) -> Iterator[Any]:
    """The batches of an epoch, which whatever has a `set_epoch` is told of."""
    parts: tuple[Any, ...] = (loader.dataset, loader.sampler, loader.batch_sampler)
    for each in parts:
        if hasattr(each, "set_epoch"):
            each.set_epoch(epoch)
    return iter(loader)


def unpack(batch: Any) -> tuple[Tensor, Tensor, Tensor | None]:
    """Inputs, labels and perhaps rows of a batch of a loader."""
    if isinstance(batch, tuple | list) and len(batch) in (2, 3) and all(isinstance(each, Tensor) for each in batch):
        inputs, labels, *rows = batch
        if all(len(each) == len(inputs) for each in (labels, *rows)):
            return inputs, labels, rows[0] if rows else None
    found = [tuple(each.shape) if isinstance(each, Tensor) else type(each).__name__ for each in batch]
    raise UserError(f"loader: a batch is {found}, expected tensors (inputs, labels) or (inputs, labels, rows)")


def check_labels(labels: Tensor, classes: int) -> None:
    """Raise UserError unless labels are (B,) class ids, or (B, classes)."""
    if labels.ndim == 1 and len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        found = f"{int(labels.min())} to {int(labels.max())}"
        raise UserError(f"labels: found {found}, expected 0 to {classes - 1}, as there are {classes} classes")
    if labels.ndim > 1 and labels.shape[1:] != (classes,):
        raise UserError(f"labels: found shape {tuple(labels.shape)}, expected (B, {classes})")


def first_batch(loader: Loader) -> tuple[Tensor, Tensor, Tensor | None]:
    """A first batch, to see what there is; nothing that is drawn for it counts."""
    with torch.random.fork_rng(devices=[]):
        for batch in begin_epoch(loader, 0):
            return unpack(batch)
    raise UserError("train: gives no batch")
