"""Training with labels alone, on one dataset or on several with a head each.

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

from kd.data.feed import Piece, batch_count, ordered_batches, shuffled_batches
from kd.models.network import Features
from kd.training.devices import send, share_of
from kd.training.loop import Fit
from kd.training.metrics import accuracies, topk_accuracy
from kd.training.mixing import Mix, draw_mix, mix_images, mixed_loss
from kd.training.recipe import Recipe
from kd.training.samples import Samples

WITHOUT_GRADIENTS = 4  # times as many samples fit into memory where nothing is kept for a backward pass


@dataclass(frozen=True)
class Batch:
    """Samples of one or more datasets, those of a dataset side by side."""

    inputs: Any
    labels: Tensor
    rows: dict[str, slice]
    mix: Mix | None = None


class Classification:
    """Cross-entropy with the labels; each sample by the head of its own dataset, each with equal weight.

    Args:
        module: maps inputs to Features with logits for every dataset.
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
        self.share = share_of(fabric, recipe)
        self.steps = batch_count(sum(len(samples.labels) for samples in train), recipe.batch_size, self.share)

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[float, Batch]]:
        """All samples of all datasets, shuffled together."""
        shuffled = shuffled_batches(
            self.train, self.recipe.batch_size, seed=self.seed, epoch=epoch, start=start, share=self.share
        )
        for step, pieces in enumerate(shuffled, start):
            for part, own in self.share.of(pieces):
                yield part, self._batch(own, epoch, step)

    def _batch(self, pieces: list[Piece], epoch: int, step: int) -> Batch:
        present = [(samples, piece) for samples, piece in zip(self.train, pieces, strict=True) if len(piece.rows)]
        labels = np.concatenate([samples.labels[piece.rows] for samples, piece in present])
        ends = np.cumsum([len(piece.rows) for _, piece in present]).tolist()
        slices = zip([0, *ends], ends, strict=False)
        inputs, mix = self._mixed([samples.inputs(piece, epoch) for samples, piece in present], epoch, step)
        return Batch(
            self.join(inputs),
            send(self.fabric, torch.from_numpy(labels)),
            {samples.dataset: slice(*ends) for (samples, _), ends in zip(present, slices, strict=True)},
            mix,
        )

    def _mixed(self, inputs: list[Any], epoch: int, step: int) -> tuple[list[Any], Mix | None]:
        """Pictures of each dataset mixed with one another, if the recipe says so."""
        if not self.recipe.mixup and not self.recipe.cutmix:
            return inputs, None
        size = (inputs[0].shape[2], inputs[0].shape[3])
        mix = draw_mix(self.recipe.mixup, self.recipe.cutmix, size, self.seed, epoch, step)
        return inputs if mix is None else [mix_images(each, each.flip(0), mix) for each in inputs], mix

    def loss(self, module: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy of the batch."""
        features = module(batch.inputs)
        loss = classification_loss(features, batch, self.recipe.label_smoothing)
        if batch.mix is None:
            return loss
        labels = batch.labels.clone()
        for rows in batch.rows.values():
            labels[rows] = batch.labels[rows].flip(0)
        partner = classification_loss(features, replace(batch, labels=labels), self.recipe.label_smoothing)
        return mixed_loss(loss, partner, batch.mix)

    def validate(self, module: nn.Module) -> float:
        """Mean acc@1 on val over the datasets."""
        scores = [
            topk_accuracy(logits, labels, 1)
            for samples in self.val
            for logits, labels in [predict(module, samples, self.recipe.batch_size)]
        ]
        return sum(scores) / len(scores)


def classification_loss(features: Features, batch: Batch, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy summed over the samples, each by its own dataset's head, divided by their number."""
    # A head without samples has a gradient of zero, not none: other processes may have samples for it.
    total = sum((logits[:0].float().sum() for logits in features.logits.values()), features.vector.new_zeros(()))
    for dataset, rows in batch.rows.items():
        logits = features.logits[dataset][rows].float()
        total = total + functional.cross_entropy(
            logits, batch.labels[rows], reduction="sum", label_smoothing=label_smoothing
        )
    return total / len(batch.labels)


@torch.no_grad()
def predict(module: nn.Module, samples: Samples, batch_size: int) -> tuple[Tensor, Tensor]:
    """Logits (N, classes) and labels (N,) of all samples, un-augmented, in float32, on the CPU.

    Leaves `module` in eval mode. `batch_size` is that of training.
    """
    module.eval()
    logits, labels = [], []
    for piece in ordered_batches(samples, WITHOUT_GRADIENTS * batch_size):
        output = module(samples.inputs(piece, None))
        logits.append((output.logits[samples.dataset] if isinstance(output, Features) else output).float().cpu())
        labels.append(torch.from_numpy(samples.labels[piece.rows]))
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
    """acc@1 and acc@5 on the test split of every dataset, as rows for the tables."""
    return [
        {"dataset": samples.dataset, "selection": selection, "metric": metric, "value": value}
        for samples in test
        for metric, value in accuracies(*predict(module, samples, batch_size)).items()
    ]
