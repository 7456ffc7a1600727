"""What a network says of test, stored beside its weights once and for all: `predictions-DATASET.npz`.

Whoever wants to know more than the metrics of the manifest computes it from these, without images or networks. It is a
file of NumPy with `ids` (N,) and `labels`, as in the group `test` of the dataset, and `logits_best_val` and
`logits_last`, (N, classes) float32, by the weights of either selection. The metrics of the manifest are those of these
numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from kd.artefacts.files import replacing
from kd.common.errors import UserError, shown

SELECTIONS = ("best_val", "last")
"""Weights that test is read with."""
LOGITS = "logits_"
"""Begins the name of the array of each selection."""


@dataclass(frozen=True)
class Predictions:
    """What one network with one selection of weights says of the test split of a dataset, in the order of its rows.

    Attributes:
        ids: (N,) int64, those of the dataset.
        labels: (N,) int64 class ids; of a multi-label dataset (N, classes) uint8 of 0 and 1.
        logits: (N, classes) float32; the metrics of the manifest are those of these very numbers.
    """

    ids: np.ndarray
    labels: np.ndarray
    logits: np.ndarray


def predictions_file(directory: Path, dataset: str) -> Path:
    """The file with predictions on the test split of a dataset, in the directory of a network."""
    return directory / f"predictions-{dataset}.npz"


def predictions_bytes(images: int, classes: int, *, multi_label: bool) -> int:
    """Bytes of the arrays in such a file."""
    return images * (8 + (classes if multi_label else 8) + 4 * classes * len(SELECTIONS))


def write_predictions(
    directory: Path, dataset: str, ids: np.ndarray, labels: np.ndarray, logits: Mapping[str, np.ndarray]
) -> None:
    """Store predictions, wholly or not at all; equal ones give equal bytes.

    Args:
        directory: of the network.
        dataset: its name.
        ids: as in `Predictions`.
        labels: as there.
        logits: as there, by selection.
    """
    arrays = {f"{LOGITS}{selection}": values for selection, values in logits.items()}
    with replacing(predictions_file(directory, dataset)) as partial, partial.open("wb") as stream:
        np.savez(stream, ids=ids, labels=labels, **arrays)  # type: ignore[arg-type] # numpy's own types lack the rest


def read_predictions(directory: Path, dataset: str, selection: str) -> Predictions:
    """Predictions with one selection of weights; others are not read.

    Raises:
        UserError: they are not there, or not what this program stores.
    """
    path = predictions_file(directory, dataset)
    try:
        with path.open("rb") as stream, np.load(stream) as arrays:
            found = Predictions(arrays["ids"], arrays["labels"], arrays[f"{LOGITS}{selection}"])
    except FileNotFoundError as error:
        raise UserError(f"{path}: is missing; delete {directory} and run again") from error
    except (KeyError, ValueError, EOFError, BadZipFile, TypeError) as error:
        raise UserError(f"{path}: holds no predictions ({shown(error)}); delete {directory} and run again") from error
    if found.logits.ndim != 2 or not len(found.ids) == len(found.labels) == len(found.logits):
        shapes = ", ".join(str(each.shape) for each in (found.ids, found.labels, found.logits))
        raise UserError(f"{path}: shapes of ids, labels and logits are {shapes}; delete {directory} and run again")
    return found
