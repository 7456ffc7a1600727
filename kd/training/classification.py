"""Training with labels alone, on one dataset or on several with a head each.

One dataset: an individual teacher. Several: the baseline that trains one network on all of them, or, with a
joint teacher for a module and embeddings for images, a joint teacher.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional

from kd.data.batches import batch_count, union_batches
from kd.data.packed import ImageSplit
from kd.data.views import Views, to_float
from kd.models.network import Features, resize_images
from kd.training.loop import Fit
from kd.training.metrics import accuracies, topk_accuracy
from kd.training.recipe import Recipe

WITHOUT_GRADIENTS = 4  # times as many samples fit into memory where nothing is kept for a backward pass


class Samples(Protocol):
    """The training or evaluation samples of one dataset, ready for a module.

    Attributes:
        dataset: its name.
        labels: (N,) int64.
    """

    dataset: str
    labels: np.ndarray

    def inputs(self, rows: np.ndarray, epoch: int | None) -> Any:
        """Module input for some rows, on the device; `epoch` None: the pictures themselves."""


@dataclass
class ImageSamples:
    """Images of one split, seen through views."""

    split: ImageSplit
    views: Views
    fabric: Fabric
    count: int | None = None
    """Views that repeat over the epochs; None: a new one in each epoch."""
    size: tuple[int, int] | None = None
    """Height and width to resize to, so that datasets of different sizes fit into one batch."""

    def __post_init__(self) -> None:
        self.dataset, self.labels = self.split.info.name, self.split.labels

    def inputs(self, rows: np.ndarray, epoch: int | None) -> Tensor:
        """(B, 3, H, W) float32 in 0..1."""
        pixels = self.fabric.to_device(torch.from_numpy(self.split.images[rows]))
        if epoch is None:
            seen = to_float(pixels)
        else:
            seen = self.views(pixels, self.split.ids[rows], epoch if self.count is None else epoch % self.count)
        return seen if self.size is None else resize_images(seen, self.size)


@dataclass(frozen=True)
class Batch:
    """Samples of one or more datasets, those of a dataset side by side."""

    inputs: Any
    labels: Tensor
    rows: dict[str, slice]


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
        self.sizes = [len(samples.labels) for samples in train]
        self.steps = batch_count(sum(self.sizes), recipe.batch_size)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """All samples of all datasets, shuffled together."""
        for parts in union_batches(self.sizes, self.recipe.batch_size, seed=self.seed, epoch=epoch):
            present = [(samples, rows) for samples, rows in zip(self.train, parts, strict=True) if len(rows)]
            labels = np.concatenate([samples.labels[rows] for samples, rows in present])
            ends = np.cumsum([len(rows) for _, rows in present]).tolist()
            slices = zip([0, *ends], ends, strict=False)
            yield Batch(
                self.join([samples.inputs(rows, epoch) for samples, rows in present]),
                self.fabric.to_device(torch.from_numpy(labels)),
                {samples.dataset: slice(*ends) for (samples, _), ends in zip(present, slices, strict=True)},
            )

    def loss(self, module: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy of the batch."""
        return classification_loss(module(batch.inputs), batch, self.recipe.label_smoothing)

    def validate(self) -> float:
        """Mean acc@1 on val over the datasets."""
        scores = [
            topk_accuracy(logits, labels, 1)
            for samples in self.val
            for logits, labels in [predict(self.module, samples, self.recipe.batch_size)]
        ]
        return sum(scores) / len(scores)


def classification_loss(features: Features, batch: Batch, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy summed over the samples, each by its own dataset's head, divided by their number."""
    total = features.vector.new_zeros(())
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
    count = len(samples.labels)
    logits = []
    size = WITHOUT_GRADIENTS * batch_size
    for start in range(0, count, size):
        rows = np.arange(start, min(start + size, count))
        output = module(samples.inputs(rows, None))
        logits.append((output.logits[samples.dataset] if isinstance(output, Features) else output).float().cpu())
    return torch.cat(logits), torch.from_numpy(samples.labels)


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
