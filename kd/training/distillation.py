"""Training a student with the soft targets of a frozen teacher."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from kd.common.streams import torch_seed
from kd.data.loader import SubBatch, batch_count, shuffled_batches
from kd.distillers.base import Batch, Distiller
from kd.distillers.losses import widened
from kd.models.devices import gathering, send
from kd.models.outputs import Arrays, flipped
from kd.models.spec import ARRAYS
from kd.models.student import Student
from kd.training.classification import predict
from kd.training.loop import partition_of
from kd.training.metrics import PRIMARY, primary
from kd.training.mixing import Mix, draw_mix, mix_images, mixed_loss
from kd.training.recipe import Recipe
from kd.training.samples import ViewedSamples
from kd.training.targets import TargetSource


@dataclass(frozen=True)
class DistillationBatch:
    """A view of some samples, and what the teacher makes of the same view.

    Attributes:
        images: (B, ...) as backbones take them, mixed if the recipe says so.
        targets: of the teacher, by name, of the images before they are mixed.
        samples: labels and more.
        mix: how the images were mixed.
    """

    images: Tensor
    targets: Arrays
    samples: Batch
    mix: Mix | None

    def flip(self) -> DistillationBatch:
        """Targets and labels of each sample's partner."""
        partners = replace(self.samples, labels=self.samples.labels.flip(0), rows=self.samples.rows.flip(0))
        return replace(self, targets=flipped(self.targets), samples=partners)


class Distillation:
    """A student on one dataset.

    Args:
        student: with the auxiliary modules of the method.
        images: training images.
        source: of the targets of the same samples and views.
        val: validation images.
        method: the loss, with its options.
        recipe: how the student is trained.
        seed: of the run.
        fabric: owns the device.
    """

    def __init__(
        self,
        student: Student,
        images: ViewedSamples,
        source: TargetSource,
        val: ViewedSamples,
        method: Distiller,
        recipe: Recipe,
        seed: int,
        fabric: Fabric,
    ) -> None:
        self.module, self.images, self.source, self.val = student, images, source, val
        self.method = method
        self.recipe, self.seed, self.fabric = recipe, seed, fabric
        self.partition = partition_of(fabric, recipe)
        self.steps = batch_count(len(images.labels), recipe.batch_size, self.partition)

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[float, DistillationBatch]]:
        """All samples, shuffled, in the view that belongs to the epoch."""
        together = [*self.images.groups, *self.source.groups]
        shuffled = shuffled_batches(
            [together], self.recipe.batch_size, seed=self.seed, epoch=epoch, start=start, partition=self.partition
        )
        for step, sub_batches in enumerate(shuffled, start):
            for part, (sub_batch,) in self.partition.of(sub_batches):
                yield part, self._batch(sub_batch, epoch, step, len(sub_batches[0].rows))

    def _batch(self, sub_batch: SubBatch, epoch: int, step: int, whole: int) -> DistillationBatch:
        n_image_groups = len(self.images.groups)
        seen = self.images.inputs(SubBatch(sub_batch.rows, sub_batch.values[:n_image_groups]), epoch)
        targets = self.source.targets(SubBatch(sub_batch.rows, sub_batch.values[n_image_groups:]), seen)
        labels = send(self.fabric, torch.from_numpy(self.images.labels[sub_batch.rows]))
        rows = send(self.fabric, torch.from_numpy(sub_batch.rows))
        mix = draw_mix(self.recipe.mixup, self.recipe.cutmix, (seen.shape[-2], seen.shape[-1]), self.seed, epoch, step)
        shown = seen if mix is None else mix_images(seen, seen.flip(0), mix)
        drawn = torch_seed("loss", self.seed, epoch, step)
        return DistillationBatch(shown, targets, Batch(labels, rows, epoch, whole, drawn), mix)

    def loss(self, module: nn.Module, batch: DistillationBatch) -> Tensor:
        """The method's loss."""
        output = module(batch.images)
        loss = self._compare(output, batch)
        return loss if batch.mix is None else mixed_loss(loss, self._compare(output, batch.flip()), batch.mix)

    def _compare(self, output: Arrays, batch: DistillationBatch) -> Tensor:
        """The loss of this process's samples, or of all processes' samples for a method that compares samples."""
        if self.fabric.world_size == 1 or not self.method.NEEDS_GLOBAL_BATCH:
            return self.method.loss(output, batch.targets, batch.samples, self.module.auxiliary)
        local = batch.samples
        gather = gathering(self.fabric, len(local.labels))
        outputs, targets = (
            {name: gather(widened(each[name])) for name in ARRAYS if name in each} for each in (output, batch.targets)
        )
        whole = replace(local, labels=gather(local.labels), rows=gather(local.rows))
        loss = self.method.loss(outputs, targets, whole, self.module.auxiliary)
        # All processes have the same loss. The training weights it by the samples that each of them holds.
        return loss * (len(whole.labels) / (len(local.labels) * self.fabric.world_size))

    @property
    def metric(self) -> str:
        """Name of the metric that `validate` measures."""
        return PRIMARY[self.val.info.task]

    def validate(self, module: nn.Module) -> float:
        """acc@1 or mAP on val."""
        assert isinstance(module, Student)
        whose = f"the student in training on val of {self.val.info.name}"
        return primary(self.val.info.task, *predict(module.network, self.val, self.recipe.batch_size), whose)
