"""From targets to a distilled student: training with the soft targets of a frozen teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from kd.common.streams import torch_seed
from kd.data.loader import ColumnGroup, MemoryBudget, SubBatch
from kd.data.modalities.base import views_of
from kd.data.packed import Split, open_split
from kd.distillers.base import Batch
from kd.distillers.criterion import DistillationLoss
from kd.distillers.losses import widened
from kd.distillers.registry import parse_distiller
from kd.models.devices import gathering, make_fabric, send
from kd.models.network import Network, Tap, tap_shapes
from kd.models.outputs import Arrays
from kd.models.spec import ARRAYS
from kd.models.weights import Exported, export_student, new_network, save_network
from kd.training.loop import finish, train_and_measure
from kd.training.mixing import Mix
from kd.training.objective import SamplesObjective
from kd.training.recipe import LIVE, STORED, Recipe, StudentSpec
from kd.training.samples import ViewedSamples, data_memory


class TargetSource(Protocol):
    """Gives the targets of any batch of the training split, for the view that the student sees."""

    @property
    def groups(self) -> Sequence[ColumnGroup]:
        """Arrays read from disk; none where live teachers look at what the student is given."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of one sample's targets by name."""

    def targets(self, sub_batch: SubBatch, images: Tensor) -> dict[str, Tensor]:
        """Targets of a batch, by name, (B, ...) on the device.

        Args:
            sub_batch: what was read from `groups`.
            images: (B, ...) the view of the samples that the student sees, before they are mixed.
        """


class NoTargets:
    """No targets: for a method that learns from labels alone."""

    groups: Sequence[ColumnGroup] = ()

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """None."""
        return {}

    def targets(self, sub_batch: SubBatch, images: Tensor) -> dict[str, Tensor]:  # noqa: ARG002
        """Nothing."""
        return {}


class Student(nn.Module):
    """A student, and the loss that has the modules which train beside it and are thrown away afterwards."""

    def __init__(self, network: Tap, criterion: DistillationLoss) -> None:
        super().__init__()
        self.network, self.criterion = network, criterion

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        """(B, ...) as the network takes it, to what is compared, and logits."""
        arrays: dict[str, Tensor] = self.network(inputs)
        return arrays


@dataclass(frozen=True)
class DistillationBatch:
    """A view of some samples, and what the teacher makes of the same view.

    Attributes:
        inputs: (B, ...) as backbones take them, mixed if the recipe says so.
        targets: of the teacher, by name, of the inputs before they are mixed.
        samples: labels and more.
        mix: how the inputs were mixed.
    """

    inputs: Tensor
    targets: Arrays
    samples: Batch
    mix: Mix | None

    def flip(self) -> DistillationBatch:
        """The same batch with targets, labels and rows of each sample's partner."""
        rows = None if self.samples.rows is None else self.samples.rows.flip(0)
        partners = replace(self.samples, labels=self.samples.labels.flip(0), rows=rows)
        targets = {name: value.flip(0) for name, value in self.targets.items()}
        return replace(self, targets=targets, samples=partners)


class Distillation(SamplesObjective):
    """A student on one dataset.

    Args:
        student: with the loss.
        samples: to train on.
        source: of the targets of the same samples and views.
        val: validation samples.
        recipe, seed, fabric: see `Objective`.
    """

    def __init__(
        self,
        student: Student,
        samples: ViewedSamples,
        source: TargetSource,
        val: ViewedSamples,
        recipe: Recipe,
        seed: int,
        fabric: Fabric,
    ) -> None:
        super().__init__(student, [samples], [val], recipe, seed, fabric)
        self.groups = [[*samples.groups, *source.groups]]
        self.student, self.source = student, source

    def make_batch(self, sub_batches: list[SubBatch], epoch: int, step: int, count: int) -> DistillationBatch:
        """Samples in the view that belongs to the epoch, with their targets."""
        (samples,), (sub_batch,) = self.train, sub_batches
        own = len(samples.groups)
        seen = samples.inputs(SubBatch(sub_batch.rows, sub_batch.values[:own]), epoch)
        targets = self.source.targets(SubBatch(sub_batch.rows, sub_batch.values[own:]), seen)
        labels = send(self.fabric, torch.from_numpy(samples.labels[sub_batch.rows]))
        rows = send(self.fabric, torch.from_numpy(sub_batch.rows))
        (shown,), mix = self.mix([seen], epoch, step)
        drawn = torch_seed("loss", self.seed, epoch, step)
        return DistillationBatch(shown, targets, Batch(labels, rows, epoch, count, drawn), mix)

    def compare(self, output: Arrays, batch: DistillationBatch) -> Tensor:
        """The loss of the method."""
        return compare(self.student.criterion, output, batch, self.fabric)

    def network(self, module: nn.Module) -> nn.Module:
        """The student alone."""
        assert isinstance(module, Student)
        return module.network.module

    def exported(self) -> nn.Module:
        """The very network that is exported, so that the table is what people get."""
        network = self.student.network
        assert isinstance(network.module, Network)
        return Exported(network.module, network.dataset)


def compare(criterion: DistillationLoss, output: Arrays, batch: DistillationBatch, fabric: Fabric) -> Tensor:
    """The loss of this process's samples, or of all processes' samples for a method that compares samples."""
    if fabric.world_size == 1 or not criterion.method.NEEDS_GLOBAL_BATCH:
        loss: Tensor = criterion(output, batch.targets, batch.samples)
        return loss
    local = batch.samples
    gather = gathering(fabric, len(local.labels))
    outputs, targets = (
        {name: gather(widened(each[name])) for name in ARRAYS if name in each} for each in (output, batch.targets)
    )
    rows = None if local.rows is None else gather(local.rows)
    whole = replace(local, labels=gather(local.labels), rows=rows)
    # All processes have the same loss. The training weights it by the samples that each of them holds.
    share = len(whole.labels) / (len(local.labels) * fabric.world_size)
    return criterion(outputs, targets, whole) * share  # type: ignore[no-any-return]


def target_source(
    spec: StudentSpec,
    upstream: Mapping[str, Path],
    names: Sequence[str],
    split: Split,
    fabric: Fabric,
    memory: MemoryBudget,
) -> TargetSource:
    """Stored targets, stored embeddings of the individual teacher, live teachers, or nothing; see `distill_student`."""
    if not names:
        return NoTargets()
    if spec.live is not None:
        source: TargetSource = import_module(LIVE).LiveTargets(spec, upstream, names, fabric)
    else:
        source = import_module(STORED).StoredTargets(upstream["targets"], split, names, spec.views, fabric, memory)
    return source


def distill_student(directory: Path, spec: StudentSpec, upstream: Mapping[str, Path]) -> tuple[dict[str, Any], str]:
    """Train a student on one dataset with soft targets.

    Args:
        directory: gets the student, predictions on test, history.csv and, while it trains, a checkpoint.
        spec: what it is and how it is trained.
        upstream: directories of the packed `dataset`; of the `targets` or, where teachers are live, of each
            `teacher:TEACHER` and of the `joint_teacher`; of fetched `weights`, where the model wants them.

    Returns:
        Test metrics with the best epoch and notes on given weights, and the name of the device.
    """
    recipe, method = spec.recipe, parse_distiller(spec.distiller)
    names = method.required(spec.level).names()
    fabric = make_fabric(recipe.precision, training=True)
    memory = data_memory(fabric)
    torch.manual_seed(torch_seed("weights", spec.seed))
    splits = {name: open_split(upstream["dataset"], name) for name in ("val", "train", "test")}
    info = splits["train"].info
    seen = views_of(info.samples, "shared", info.name, spec.seed, recipe.augmentation)
    images = {
        name: ViewedSamples(split, seen, fabric, memory if name != "test" else None, spec.views)
        for name, split in splits.items()
    }
    network = new_network(spec.model, [info], pretrained=upstream.get("weights"))
    Exported(network, info.name)  # refuses now, not after training, what cannot be exported
    source = target_source(spec, upstream, names, splits["train"], fabric, memory)
    shapes = tap_shapes(network, names, info.name)
    criterion = DistillationLoss(method, shapes, source.shapes(), info.sizes["train"])
    student = Student(Tap(network, ("logits", *names), info.name), criterion)
    objective = Distillation(student, images["train"], source, images["val"], recipe, spec.seed, fabric)
    result = train_and_measure(objective, [images["test"]], directory)
    save_network(network, directory)
    export_student(network, info, directory)
    finish(directory)
    return result | {"notes": network.notes}, str(fabric.device)
