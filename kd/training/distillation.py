"""Training a student with the soft targets of a frozen teacher that reads cached embeddings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from kd.data.batches import batch_count, epoch_batches
from kd.distillers.base import Distiller, DistillerOptions
from kd.models.alignment import AlignedStudent
from kd.models.targets import TargetMaker, Targets
from kd.training.cached import CachedSamples
from kd.training.classification import ImageSamples, predict
from kd.training.metrics import topk_accuracy
from kd.training.recipe import Recipe


@dataclass(frozen=True)
class DistillationBatch:
    """A view of some samples, and what the teacher makes of the same view."""

    images: Tensor
    targets: Targets
    labels: Tensor


class Distillation:
    """A student on one dataset.

    Args:
        student: in the shapes of its targets.
        teacher: frozen; makes targets from embeddings.
        images: training images.
        embeddings: of the same samples and views.
        val: validation images.
        distiller: the loss, with its options.
        recipe: how the student is trained.
        seed: of the run.
        fabric: owns the device.
    """

    def __init__(
        self,
        student: AlignedStudent,
        teacher: TargetMaker,
        images: ImageSamples,
        embeddings: CachedSamples,
        val: ImageSamples,
        distiller: tuple[Distiller, DistillerOptions],
        recipe: Recipe,
        seed: int,
        fabric: Fabric,
    ) -> None:
        self.module, self.teacher = student, teacher
        self.images, self.embeddings, self.val = images, embeddings, val
        self.distiller, self.options = distiller
        self.recipe, self.seed, self.fabric = recipe, seed, fabric
        self.steps = batch_count(len(images.labels), recipe.batch_size)

    def batches(self, epoch: int) -> Iterator[DistillationBatch]:
        """All samples, shuffled, in the view that belongs to the epoch."""
        for rows in epoch_batches(len(self.images.labels), self.recipe.batch_size, seed=self.seed, epoch=epoch):
            with torch.no_grad():
                targets = self.teacher.make_targets(self.embeddings.inputs(rows, epoch), self.images.dataset)
            labels = self.fabric.to_device(torch.from_numpy(self.images.labels[rows]))
            yield DistillationBatch(self.images.inputs(rows, epoch), targets, labels)

    def loss(self, module: nn.Module, batch: DistillationBatch) -> Tensor:
        """The distiller's loss."""
        return self.distiller.loss(module(batch.images), batch.targets, batch.labels, self.options)

    def validate(self) -> float:
        """acc@1 on val."""
        return topk_accuracy(*predict(self.module.network, self.val, self.recipe.batch_size), 1)
