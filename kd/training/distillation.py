"""Training a student with the soft targets of a frozen teacher."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from kd.data.feed import Piece, Table, batch_count, shuffled_batches
from kd.distillers.base import Distiller
from kd.distillers.losses import widened
from kd.models.outputs import Outputs
from kd.models.spec import ARRAYS
from kd.models.student import Student
from kd.streams import torch_seed
from kd.training.classification import predict
from kd.training.devices import gathering, send
from kd.training.loop import share_of
from kd.training.metrics import PRIMARY, primary
from kd.training.mixing import Mix, draw_mix, mix_images, mixed_loss
from kd.training.recipe import Recipe
from kd.training.samples import ImageSamples
from kd.training.targets import TargetSource


@dataclass(frozen=True)
class DistillationBatch:
    """A view of some samples, and what the teacher makes of the same view; see `kd.distillers.base.Batch`."""

    images: Tensor
    targets: Outputs
    labels: Tensor
    rows: Tensor
    epoch: int
    whole: int
    seed: int
    mix: Mix | None

    def flip(self) -> DistillationBatch:
        """Targets and labels of each sample's partner."""
        return replace(self, targets=self.targets.flip(), labels=self.labels.flip(0), rows=self.rows.flip(0))


@dataclass(frozen=True)
class _Together:
    """Pictures and targets of the same samples, read in step."""

    tables: Sequence[Table]


class Distillation:
    """A student on one dataset.

    Args:
        student: with the parts that the method trains.
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
        images: ImageSamples,
        source: TargetSource,
        val: ImageSamples,
        method: Distiller,
        recipe: Recipe,
        seed: int,
        fabric: Fabric,
    ) -> None:
        self.module, self.images, self.source, self.val = student, images, source, val
        self.method = method
        self.recipe, self.seed, self.fabric = recipe, seed, fabric
        self.share = share_of(fabric, recipe)
        self.steps = batch_count(len(images.labels), recipe.batch_size, self.share)

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[float, DistillationBatch]]:
        """All samples, shuffled, in the view that belongs to the epoch."""
        together = _Together([*self.images.tables, *self.source.tables])
        shuffled = shuffled_batches(
            [together], self.recipe.batch_size, seed=self.seed, epoch=epoch, start=start, share=self.share
        )
        for step, pieces in enumerate(shuffled, start):
            for part, (own,) in self.share.of(pieces):
                yield part, self._batch(own, epoch, step, len(pieces[0].rows))

    def _batch(self, piece: Piece, epoch: int, step: int, whole: int) -> DistillationBatch:
        own = len(self.images.tables)
        seen = self.images.inputs(Piece(piece.rows, piece.values[:own]), epoch)
        targets = self.source.targets(Piece(piece.rows, piece.values[own:]), seen)
        labels = send(self.fabric, torch.from_numpy(self.images.labels[piece.rows]))
        rows = send(self.fabric, torch.from_numpy(piece.rows))
        mix = draw_mix(self.recipe.mixup, self.recipe.cutmix, (seen.shape[2], seen.shape[3]), self.seed, epoch, step)
        shown = seen if mix is None else mix_images(seen, seen.flip(0), mix)
        drawn = torch_seed("loss", self.seed, epoch, step)
        return DistillationBatch(shown, targets, labels, rows, epoch, whole, drawn, mix)

    def loss(self, module: nn.Module, batch: DistillationBatch) -> Tensor:
        """The method's loss."""
        output = module(batch.images)
        loss = self._compare(output, batch)
        return loss if batch.mix is None else mixed_loss(loss, self._compare(output, batch.flip()), batch.mix)

    def _compare(self, output: Outputs, batch: DistillationBatch) -> Tensor:
        """Of what this process holds; where samples are compared with each other, of what all processes hold."""
        if self.fabric.world_size == 1 or not self.method.COMPARES_SAMPLES:
            return self.method.loss(output, batch.targets, batch, self.module.parts)
        gather = gathering(self.fabric, len(batch.labels))
        outputs, targets = (
            Outputs.of({name: gather(widened(value)) for name, value in each.named(ARRAYS).items()})
            for each in (output, batch.targets)
        )
        whole = replace(batch, targets=targets, labels=gather(batch.labels), rows=gather(batch.rows))
        loss = self.method.loss(outputs, targets, whole, self.module.parts)
        # All processes have the same loss. The training weights it by the samples that each of them holds.
        return loss * (len(whole.labels) / (len(batch.labels) * self.fabric.world_size))

    @property
    def metric(self) -> str:
        """What `validate` measures."""
        return PRIMARY[self.val.task]

    def validate(self, module: nn.Module) -> float:
        """acc@1 or mAP on val."""
        assert isinstance(module, Student)
        whose = f"the student in training on val of {self.val.dataset}"
        return primary(self.val.task, *predict(module.network, self.val, self.recipe.batch_size), whose)
