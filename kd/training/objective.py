"""What is trained: a module with its data and its loss."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from lightning_fabric import Fabric
from torch import Tensor, nn

from kd.data.loader import Partition, SubBatch, batch_count, shuffled_batches
from kd.training.measuring import score
from kd.training.metrics import PRIMARY
from kd.training.mixing import Mix, draw_mix, mix_images, mixed_loss
from kd.training.recipe import Recipe
from kd.training.samples import Samples


class Objective:
    """A module to train, and its loss. A subclass says what batches there are and what is compared.

    Args:
        module: holds every parameter that trains.
        recipe: how the module is trained.
        seed: of the run.
        fabric: owns the device.

    Attributes:
        steps: optimiser steps in an epoch.
        metric: name of what `validate` measures, such as `acc@1`; None: nothing is measured while it trains.
    """

    identity: str = ""
    """Told by whoever resumes in a directory that no key names: a checkpoint of another training is refused."""
    AHEAD: ClassVar[bool] = True
    """Whether batches may be made in a thread of their own while the one before is trained on."""

    steps: int
    metric: str | None

    def __init__(self, module: nn.Module, recipe: Recipe, seed: int, fabric: Fabric) -> None:
        self.module, self.recipe, self.seed, self.fabric = module, recipe, seed, fabric
        self.partition = Partition(recipe.accumulate, fabric.global_rank, fabric.world_size)

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[float, Any]]:
        """This process's batches of an epoch, from step `start` on; a pure function of epoch and step.

        A batch has the `inputs` of the module, and `mix`: how they were mixed; its `flip()` is the same batch with the
        labels and targets of each sample's partner.

        Yields:
            For each step as many batches as the recipe has passes: the part of all samples of the step that it
            holds, and the batch, on the device.
        """
        raise NotImplementedError

    def validate(self, module: nn.Module) -> float:
        """Score of `module` on val in percent: acc@1 or mAP."""
        raise NotImplementedError

    def mix(self, inputs: list[Any], epoch: int, step: int) -> tuple[list[Any], Mix | None]:
        """Images of each dataset mixed with one another, if the recipe says so."""
        if not self.recipe.mixup and not self.recipe.cutmix:
            return inputs, None
        size = (inputs[0].shape[-2], inputs[0].shape[-1])
        mix = draw_mix(self.recipe.mixup, self.recipe.cutmix, size, self.seed, epoch, step)
        return [mix_images(each, each.flip(0), mix) for each in inputs], mix

    def loss(self, module: nn.Module, batch: Any) -> Tensor:
        """Scalar loss, a mean over the batch; `module` is `self.module` as Fabric wrapped it."""
        output = module(batch.inputs)
        loss = self.compare(output, batch)
        return loss if batch.mix is None else mixed_loss(loss, self.compare(output, batch.flip()), batch.mix)

    def compare(self, output: Any, batch: Any) -> Tensor:
        """Scalar loss of the module's output for a batch, a mean over its samples."""
        raise NotImplementedError


class SamplesObjective(Objective):
    """A module that is trained on the samples of datasets.

    Args:
        train: training samples of each dataset; those of all datasets are shuffled together.
        val: validation samples of each dataset.
        module, recipe, seed, fabric: see `Objective`.

    Attributes:
        groups: what is read of each dataset, in step.
    """

    def __init__(
        self,
        module: nn.Module,
        train: Sequence[Samples],
        val: Sequence[Samples],
        recipe: Recipe,
        seed: int,
        fabric: Fabric,
    ) -> None:
        super().__init__(module, recipe, seed, fabric)
        self.train, self.val = train, val
        self.groups = [samples.groups for samples in train]
        self.steps = batch_count(sum(len(samples.labels) for samples in train), recipe.batch_size, self.partition)
        metrics = {PRIMARY[samples.info.task] for samples in val}
        self.metric = "score" if len(metrics) > 1 else metrics.pop() if metrics else None

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[float, Any]]:
        """Every sample of every dataset once, in the order of `kd.data.order`."""
        shuffled = shuffled_batches(
            self.groups, self.recipe.batch_size, seed=self.seed, epoch=epoch, start=start, partition=self.partition
        )
        for step, sub_batches in enumerate(shuffled, start):
            count = sum(len(each.rows) for each in sub_batches)
            for part, held in self.partition.of(sub_batches):
                yield part, self.make_batch(held, epoch, step, count)

    def make_batch(self, sub_batches: list[SubBatch], epoch: int, step: int, count: int) -> Any:
        """What was read of each dataset as a batch on the device; the whole step has `count` samples."""
        raise NotImplementedError

    def network(self, module: nn.Module) -> nn.Module:
        """What is measured of a module such as `self.module`."""
        return module

    def exported(self) -> nn.Module:
        """What reads test, with the weights that `self.module` has now."""
        return self.network(self.module)

    def validate(self, module: nn.Module) -> float:
        """The mean over the datasets of acc@1 or mAP."""
        network, batch_size = self.network(module), self.recipe.batch_size
        whose = "the network in training on val of"
        scores = [score(network, samples, batch_size, f"{whose} {samples.info.name}") for samples in self.val]
        return sum(scores) / len(scores)
