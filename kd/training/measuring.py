"""How good a network is on val and on test, as rows for the tables; and what it says of test, for further analyses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kd.data.loader import ordered_batches
from kd.models.outputs import Outputs
from kd.training.metrics import PRIMARY, VAL, metric_rows, primary
from kd.training.predictions import write_predictions
from kd.training.samples import Samples

WITHOUT_GRADIENTS = 4  # times as many samples fit into memory where nothing is kept for a backward pass


def predict(module: nn.Module, samples: Samples, batch_size: int) -> tuple[Tensor, Tensor]:
    """Logits (N, classes) in float32, and labels, of all samples, un-augmented, on the CPU.

    Leaves `module` in eval mode. `batch_size` is that of training.
    """
    batches = ordered_batches(samples.groups, WITHOUT_GRADIENTS * batch_size)
    seen = ((samples.inputs(each, None), torch.from_numpy(samples.labels[each.rows])) for each in batches)
    return predict_batches(module, seen, samples.info.name)


@torch.no_grad()
def predict_batches(
    module: nn.Module, batches: Iterable[tuple[Any, Tensor]], dataset: str = ""
) -> tuple[Tensor, Tensor]:
    """Logits (N, classes) in float32, and labels, of batches of inputs and labels, on the CPU.

    Leaves `module` in eval mode.

    Args:
        module: gives logits, `Outputs` with those of `dataset`, or arrays by name.
        batches: inputs are on the device.
        dataset: whose head is read, where there are several.
    """
    module.eval()
    logits, labels = [], []
    for inputs, given in batches:
        output = module(inputs)
        if isinstance(output, Outputs):
            output = output.logits[dataset]
        elif isinstance(output, Mapping):
            output = output["logits"]
        logits.append(output.float().cpu())
        labels.append(given.cpu())
    return torch.cat(logits), torch.cat(labels)


def score(module: nn.Module, samples: Samples, batch_size: int, whose: str) -> float:
    """acc@1 or mAP of a module in percent; `whose` names module and samples in errors."""
    return primary(samples.info.task, *predict(module, samples, batch_size), whose)


def result_rows(
    network: nn.Module,
    exported: nn.Module,
    val: Sequence[Samples],
    test: Sequence[Samples],
    selection: str,
    batch_size: int,
) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    """Rows of a manifest: all metrics on the test split of every dataset, and on val the one that choices are made by.

    And the logits that the metrics on test are of, by dataset: (N, classes) float32 on the CPU.

    Args:
        network: is measured on val.
        exported: the same network as it leaves; it reads test, so that the tables are of what people get.
        val: samples per dataset.
        test: samples per dataset.
        selection: name of the weights that both have.
        batch_size: that of training.
    """
    rows: list[dict[str, Any]] = []
    predicted: dict[str, Tensor] = {}
    for samples in test:
        info = samples.info
        predicted[info.name], labels = predict(exported, samples, batch_size)
        rows += metric_rows(info.task, info.name, selection, info.classes, predicted[info.name], labels)
    for samples in val:
        rows.append(
            {
                "dataset": samples.info.name,
                "selection": selection,
                "metric": VAL + PRIMARY[samples.info.task],
                "value": score(network, samples, batch_size, f"{selection} on {samples.info.name}"),
            }
        )
    return rows, predicted


def store_predictions(directory: Path, test: Sequence[Samples], predicted: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Store what a network says of the test split of every dataset.

    Args:
        directory: of the network.
        test: samples per dataset.
        predicted: logits by selection and dataset, as from `result_rows`.
    """
    for samples in test:
        name = samples.info.name
        logits = {selection: by_dataset[name].numpy() for selection, by_dataset in predicted.items()}
        write_predictions(directory, name, samples.split.ids, samples.labels, logits)
