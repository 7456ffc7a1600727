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
from kd.distillers.base import Batch, Distiller
from kd.distillers.losses import widened
from kd.distillers.registry import parse_distiller
from kd.models.devices import gathering, make_fabric, send
from kd.models.network import Network, tap_shapes
from kd.models.outputs import Arrays, Outputs
from kd.models.spec import ARRAYS, LEVELS
from kd.models.weights import Exported, export_student, new_network, save_network
from kd.training.loop import finish, train_and_measure
from kd.training.mixing import Mix
from kd.training.objective import Objective
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
    """Student network and the auxiliary modules of a method: trained beside it, and thrown away afterwards.

    Args:
        network: the student.
        dataset: whose head is trained.
        names: what the method compares, as in `kd.models.outputs.Arrays`.
        auxiliary: modules of the method, or None.
    """

    def __init__(self, network: Network, dataset: str, names: tuple[str, ...], auxiliary: nn.Module | None) -> None:
        super().__init__()
        self.network, self.dataset, self.auxiliary = network, dataset, auxiliary
        self.names = ("logits", *(name for name in names if name != "logits"))
        self.levels = [level for level in LEVELS if level in names]

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        """(B, ...) of the network's modality, in 0..1, to what is compared, and logits."""
        outputs: Outputs = self.network(inputs, self.levels)
        return outputs.arrays(self.dataset, self.names)


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
        partners = replace(self.samples, labels=self.samples.labels.flip(0), rows=self.samples.rows.flip(0))
        targets = {name: value.flip(0) for name, value in self.targets.items()}
        return replace(self, targets=targets, samples=partners)


class Distillation(Objective):
    """A student on one dataset.

    Args:
        student: with the auxiliary modules of the method.
        samples: to train on.
        source: of the targets of the same samples and views.
        val: validation samples.
        method: the loss, with its options.
        recipe, seed, fabric: see `Objective`.
    """

    def __init__(
        self,
        student: Student,
        samples: ViewedSamples,
        source: TargetSource,
        val: ViewedSamples,
        method: Distiller,
        recipe: Recipe,
        seed: int,
        fabric: Fabric,
    ) -> None:
        super().__init__(student, [samples], [val], recipe, seed, fabric)
        self.groups = [[*samples.groups, *source.groups]]
        self.student, self.source, self.method = student, source, method

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
        """The loss of this process's samples, or of all processes' samples for a method that compares samples."""
        auxiliary = self.student.auxiliary
        if self.fabric.world_size == 1 or not self.method.NEEDS_GLOBAL_BATCH:
            return self.method.loss(output, batch.targets, batch.samples, auxiliary)
        local = batch.samples
        gather = gathering(self.fabric, len(local.labels))
        outputs, targets = (
            {name: gather(widened(each[name])) for name in ARRAYS if name in each} for each in (output, batch.targets)
        )
        whole = replace(local, labels=gather(local.labels), rows=gather(local.rows))
        loss = self.method.loss(outputs, targets, whole, auxiliary)
        # All processes have the same loss. The training weights it by the samples that each of them holds.
        return loss * (len(whole.labels) / (len(local.labels) * self.fabric.world_size))

    def network(self, module: nn.Module) -> nn.Module:
        """The student without the auxiliary modules."""
        assert isinstance(module, Student)
        return module.network

    def exported(self) -> nn.Module:
        """The very network that is exported, so that the table is what people get."""
        return Exported(self.student.network, self.student.dataset)


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
    auxiliary = method.auxiliary(tap_shapes(network, names, info.name), source.shapes(), info.sizes["train"])
    student = Student(network, info.name, names, auxiliary)
    objective = Distillation(student, images["train"], source, images["val"], method, recipe, spec.seed, fabric)
    result = train_and_measure(objective, [images["test"]], directory)
    save_network(network, directory)
    export_student(network, info, directory)
    finish(directory)
    return result | {"notes": network.notes}, str(fabric.device)
