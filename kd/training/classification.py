"""Training with labels alone, on one dataset or on several with a head each, single-label or multi-label.

One dataset: an individual teacher. Several: the baseline that trains one network on all of them, or, with a
joint teacher for a module and embeddings for images, a joint teacher.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional

from kd.data.loader import SubBatch, batch_count, ordered_batches, shuffled_batches
from kd.models.devices import send
from kd.models.outputs import Outputs
from kd.training.loop import Fit, partition_of
from kd.training.metrics import PRIMARY, VAL, metric_rows, primary
from kd.training.mixing import Mix, draw_mix, mix_images, mixed_loss
from kd.training.recipe import Recipe
from kd.training.samples import Samples

WITHOUT_GRADIENTS = 4  # times as many samples fit into memory where nothing is kept for a backward pass


@dataclass(frozen=True)
class LabelledBatch:
    """Samples of one or more datasets, those of a dataset side by side."""

    inputs: Any
    labels: dict[str, Tensor]
    rows: dict[str, slice]
    mix: Mix | None = None

    def flip(self) -> LabelledBatch:
        """The same batch with the labels of each sample's partner."""
        return replace(self, labels={dataset: labels.flip(0) for dataset, labels in self.labels.items()})


class Classification:
    """Cross-entropy with the labels; each sample by the head of its own dataset, each with equal weight.

    Of multi-label datasets it is the binary one, summed over labels.

    Args:
        module: maps inputs to Outputs with logits for every dataset.
        train, val: samples per dataset.
        recipe: how it is trained.
        seed: of the run.
        fabric: owns the device.
        join: puts the inputs of several datasets into one batch.
    """

    def __init__(
        self,
        module: nn.Module,
        train: Sequence[Samples],
        val: Sequence[Samples],
        recipe: Recipe,
        seed: int,
        fabric: Fabric,
        join: Callable[[list[Any]], Any] = torch.cat,
    ) -> None:
        self.module, self.recipe, self.seed, self.fabric, self.join = module, recipe, seed, fabric, join
        self.train, self.val = train, val
        self.partition = partition_of(fabric, recipe)
        self.steps = batch_count(sum(len(samples.labels) for samples in train), recipe.batch_size, self.partition)

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[float, LabelledBatch]]:
        """All samples of all datasets, shuffled together."""
        shuffled = shuffled_batches(
            [samples.groups for samples in self.train],
            self.recipe.batch_size,
            seed=self.seed,
            epoch=epoch,
            start=start,
            partition=self.partition,
        )
        for step, sub_batches in enumerate(shuffled, start):
            for part, held in self.partition.of(sub_batches):
                yield part, self._batch(held, epoch, step)

    def _batch(self, sub_batches: list[SubBatch], epoch: int, step: int) -> LabelledBatch:
        present = [
            (samples, sub_batch)
            for samples, sub_batch in zip(self.train, sub_batches, strict=True)
            if len(sub_batch.rows)
        ]
        ends = np.cumsum([len(sub_batch.rows) for _, sub_batch in present]).tolist()
        slices = zip([0, *ends], ends, strict=False)
        inputs, mix = self._mixed([samples.inputs(sub_batch, epoch) for samples, sub_batch in present], epoch, step)
        return LabelledBatch(
            self.join(inputs),
            {
                samples.info.name: send(self.fabric, torch.from_numpy(samples.labels[sub_batch.rows]))
                for samples, sub_batch in present
            },
            {samples.info.name: slice(*ends) for (samples, _), ends in zip(present, slices, strict=True)},
            mix,
        )

    def _mixed(self, inputs: list[Any], epoch: int, step: int) -> tuple[list[Any], Mix | None]:
        """Images of each dataset mixed with one another, if the recipe says so."""
        if not self.recipe.mixup and not self.recipe.cutmix:
            return inputs, None
        size = (inputs[0].shape[-2], inputs[0].shape[-1])
        mix = draw_mix(self.recipe.mixup, self.recipe.cutmix, size, self.seed, epoch, step)
        return inputs if mix is None else [mix_images(each, each.flip(0), mix) for each in inputs], mix

    def loss(self, module: nn.Module, batch: LabelledBatch) -> Tensor:
        """Mean cross-entropy of the batch."""
        features = module(batch.inputs)
        loss = classification_loss(features, batch, self.recipe.label_smoothing)
        if batch.mix is None:
            return loss
        return mixed_loss(loss, classification_loss(features, batch.flip(), self.recipe.label_smoothing), batch.mix)

    @property
    def metric(self) -> str:
        """Name of the metric that `validate` measures."""
        metrics = {PRIMARY[samples.info.task] for samples in self.val}
        return metrics.pop() if len(metrics) == 1 else "score"

    def validate(self, module: nn.Module) -> float:
        """Mean over the datasets of acc@1 or mAP on val."""
        scores = [
            primary(
                samples.info.task,
                *predict(module, samples, self.recipe.batch_size),
                f"the network in training on val of {samples.info.name}",
            )
            for samples in self.val
        ]
        return sum(scores) / len(scores)


def classification_loss(outputs: Outputs, batch: LabelledBatch, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy summed over the samples, each by its own dataset's head, divided by their number.

    The binary cross-entropy of multi-label datasets is summed over labels, and smoothed towards 1/2.
    """
    # A head without samples has a gradient of zero, not none: other processes may have samples for it.
    total = sum((logits[:0].float().sum() for logits in outputs.logits.values()), outputs.vector.new_zeros(()))
    for dataset, rows in batch.rows.items():
        logits = outputs.logits[dataset][rows].float()
        labels = batch.labels[dataset]
        if labels.ndim == 1:
            total = total + functional.cross_entropy(logits, labels, reduction="sum", label_smoothing=label_smoothing)
        else:
            smoothed = labels * (1 - label_smoothing) + label_smoothing / 2
            total = total + functional.binary_cross_entropy_with_logits(logits, smoothed, reduction="sum")
    return total / sum(map(len, batch.labels.values()))


@torch.no_grad()
def predict(module: nn.Module, samples: Samples, batch_size: int) -> tuple[Tensor, Tensor]:
    """Logits (N, classes) in float32, and labels, of all samples, un-augmented, on the CPU.

    Leaves `module` in eval mode. `batch_size` is that of training.
    """
    module.eval()
    logits, labels = [], []
    for sub_batch in ordered_batches(samples.groups, WITHOUT_GRADIENTS * batch_size):
        output = module(samples.inputs(sub_batch, None))
        logits.append((output.logits[samples.info.name] if isinstance(output, Outputs) else output).float().cpu())
        labels.append(torch.from_numpy(samples.labels[sub_batch.rows]))
    return torch.cat(logits), torch.cat(labels)


def measure_selections(
    trained: Fit, module: nn.Module, keep: str, measure: Callable[[str], list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    """Read test once with the weights of each selection, and leave `module` with the selected ones.

    Args:
        trained: a finished training of `module`.
        module: is given the weights.
        keep: selection whose weights it has in the end.
        measure: evaluates `module`; its argument is the name of the selection.
    """
    metrics = []
    for selection, weights in trained.weights.items():
        module.load_state_dict(weights)
        metrics += measure(selection)
    module.load_state_dict(trained.weights[keep])
    return metrics


def measure_test(module: nn.Module, test: Sequence[Samples], selection: str, batch_size: int) -> list[dict[str, Any]]:
    """Metrics on the test split of every dataset, as rows for the tables."""
    return [
        row
        for samples in test
        for row in metric_rows(
            samples.info.task,
            samples.info.name,
            selection,
            samples.info.classes,
            *predict(module, samples, batch_size),
        )
    ]


def measure_val(module: nn.Module, val: Sequence[Samples], selection: str, batch_size: int) -> list[dict[str, Any]]:
    """The primary metric on the val split of every dataset, as rows for the tables: what choices are made by."""
    return [
        {
            "dataset": samples.info.name,
            "selection": selection,
            "metric": VAL + PRIMARY[samples.info.task],
            "value": primary(
                samples.info.task, *predict(module, samples, batch_size), f"{selection} on {samples.info.name}"
            ),
        }
        for samples in val
    ]
