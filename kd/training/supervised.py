"""Training with labels alone, on one dataset or on several with a head each, single-label or multi-label.

One dataset: an individual teacher. Several: the baseline that trains one network on all of them, or, with a
joint teacher for a module and embeddings for images, a joint teacher (see `kd.training.fusion`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from kd.common.streams import torch_seed
from kd.data.loader import SubBatch
from kd.data.modalities.base import views_of
from kd.data.packed import open_split
from kd.models.devices import make_fabric, send
from kd.models.outputs import Outputs
from kd.models.spec import ModelSpec
from kd.models.weights import new_network, save_network
from kd.training.loop import finish, train_and_measure
from kd.training.measuring import result_rows, store_predictions
from kd.training.mixing import Mix
from kd.training.objective import SamplesObjective
from kd.training.recipe import Recipe
from kd.training.samples import ViewedSamples, data_memory

EVALUATION_BATCH = 64


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


class Classification(SamplesObjective):
    """Cross-entropy with the labels; each sample by the head of its own dataset, each with equal weight.

    Of multi-label datasets it is the binary one, summed over labels.

    `module` maps inputs to `Outputs` with logits for every dataset.
    """

    def make_batch(self, sub_batches: list[SubBatch], epoch: int, step: int, count: int) -> LabelledBatch:  # noqa: ARG002
        """The samples of the datasets that have any, one dataset after another."""
        present = [
            (samples, sub_batch)
            for samples, sub_batch in zip(self.train, sub_batches, strict=True)
            if len(sub_batch.rows)
        ]
        ends = np.cumsum([len(sub_batch.rows) for _, sub_batch in present]).tolist()
        slices = zip([0, *ends], ends, strict=False)
        inputs, mix = self.mix([samples.inputs(sub_batch, epoch) for samples, sub_batch in present], epoch, step)
        return LabelledBatch(
            self.train[0].join(inputs),
            {
                samples.info.name: send(self.fabric, torch.from_numpy(samples.labels[sub_batch.rows]))
                for samples, sub_batch in present
            },
            {samples.info.name: slice(*ends) for (samples, _), ends in zip(present, slices, strict=True)},
            mix,
        )

    def compare(self, output: Outputs, batch: LabelledBatch) -> Tensor:
        """Mean cross-entropy of the batch."""
        return classification_loss(output, batch, self.recipe.label_smoothing)


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


def train_network(
    directory: Path,
    datasets: Sequence[Path],
    model: ModelSpec,
    recipe: Recipe | None,
    seed: int,
    pretrained: Path | None = None,
) -> tuple[dict[str, Any], str]:
    """Train one network with labels; several datasets share all of it but their heads.

    Args:
        directory: gets the network, predictions on test, history.csv and, while it trains, a checkpoint.
        datasets: packed datasets; input statistics are those of the first.
        model: the network.
        recipe: None: given weights are evaluated and stored as they are.
        seed: of initial weights, order, views and dropout.
        pretrained: directory of fetched weights, where the model wants them.

    Returns:
        Test metrics with the best epoch and notes on given weights, and the name of the device.
    """
    fabric = make_fabric(recipe.precision, training=True) if recipe else make_fabric("32")
    torch.manual_seed(torch_seed("weights", seed))
    memory = data_memory(fabric)
    splits = {name: [open_split(path, name) for path in datasets] for name in ("val", "train", "test")}
    infos = [split.info for split in splits["train"]]
    network = new_network(model, infos, pretrained=pretrained, trains=recipe is not None)
    augmentation = recipe.augmentation if recipe else None
    views = [views_of(info.samples, "train", info.name, seed, augmentation) for info in infos]
    samples = {
        name: [
            ViewedSamples(split, view, fabric, memory if name != "test" else None, fit=network.resize)
            for split, view in zip(each, views, strict=True)
        ]
        for name, each in splits.items()
    }
    if recipe is None:
        network.to(fabric.device)
        val, test = samples["val"], samples["test"]
        metrics, predicted = result_rows(network, network, val, test, "last", EVALUATION_BATCH)
        metrics += [row | {"selection": "best_val"} for row in metrics]
        store_predictions(directory, test, {"best_val": predicted, "last": predicted})
        result = {"metrics": metrics, "best_epoch": 0}
    else:
        objective = Classification(network, samples["train"], samples["val"], recipe, seed, fabric)
        result = train_and_measure(objective, samples["test"], directory)
    save_network(network, directory)
    finish(directory)
    return result | {"notes": network.notes}, str(fabric.device)
