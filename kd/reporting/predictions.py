"""Stored predictions of the networks of a run, for tables and figures that say more than the metrics of manifests.

One file is in memory at a time, since there may be hundreds of them. Students of sweeps are left out throughout.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd.artefacts.job import Job
from kd.common.errors import UserError
from kd.reporting.base import Row, Run, each_once

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from kd.training.predictions import Predictions

NAMES = ("experiment", "dataset", "method", "level")
"""What tells networks of one seed apart, but for sweeps."""


def rows_without_sweeps(run: Run) -> list[Row]:
    """The networks that methods are compared by."""
    return [row for row in run.rows if not row.variant]


def networks_of(rows: Sequence[Row]) -> list[Job]:
    """The artefacts of some rows, each once."""
    return each_once(row.job for row in rows)


def predictions_by_network(run: Run) -> Iterator[tuple[list[Row], Predictions]]:
    """What each network says of the test samples of each dataset, with all rows that it has for the dataset.

    The individual teacher of a dataset, say, has a row in each experiment. Weights are those that the run shows.

    Raises:
        UserError: a file is missing or damaged, or two networks were measured on other samples of one dataset.
    """
    from kd.training.predictions import read_predictions

    rows: dict[tuple[str, Path], list[Row]] = {}
    for row in rows_without_sweeps(run):
        rows.setdefault((row.dataset, row.job.directory), []).append(row)
    first: dict[str, Predictions] = {}
    for (dataset, directory), found in rows.items():
        predictions = read_predictions(directory, dataset, run.selection)
        samples = replace(predictions, logits=predictions.logits[:0].copy())  # no view, which would keep all in memory
        check_same_samples(first.setdefault(dataset, samples), predictions, directory)
        yield found, predictions


def check_same_samples(first: Predictions, other: Predictions, directory: Path) -> None:
    """Raise a UserError if predictions, those of the `other` in a directory, are not of the same samples."""
    import numpy as np

    if not np.array_equal(first.ids, other.ids) or not np.array_equal(first.labels, other.labels):
        raise UserError(f"{directory}: its predictions are of other test samples than those of the rest; run again")


def predicted_classes(logits: np.ndarray) -> np.ndarray:
    """(N,) int64: the class of each sample of a single-label dataset; of equal logits that which acc@1 counts.

    Args:
        logits: (N, classes) float32.
    """
    import torch

    found: np.ndarray = torch.from_numpy(logits).topk(1, dim=1).indices[:, 0].numpy()
    return found


def hits(predictions: Predictions) -> np.ndarray:
    """(N,) bool: whether each sample of a single-label dataset is classified as its label says."""
    found: np.ndarray = predicted_classes(predictions.logits) == predictions.labels
    return found


def names_of(row: Row) -> tuple[str, ...]:
    """The `NAMES` of a network."""
    return tuple(getattr(row, name) for name in NAMES)


def place_of(row: Row) -> dict[str, Any]:
    """Where a network belongs in tables, with its seed."""
    return dict(zip(NAMES, names_of(row), strict=True)) | {"seed": row.seed}


def over_seeds(run: Run, lines: Sequence[dict[str, Any]], values: Sequence[str]) -> pd.DataFrame:
    """Mean and standard deviation over seeds, a line for each of `NAMES`, in the order of all tables.

    Columns: `NAMES`, `n_seeds`, and of each of `values` its mean under its own name and its deviation under NAME_std.

    Args:
        run: whose.
        lines: `place_of` a row and the values of its network.
        values: names of columns.
    """
    import pandas as pd

    from kd.reporting.statistics import in_order

    table = pd.DataFrame(list(lines), columns=[*NAMES, "seed", *values]).astype(dict.fromkeys(values, float))
    columns: dict[str, tuple[str, str]] = {"n_seeds": ("seed", "count")}
    for name in values:
        columns |= {name: (name, "mean"), f"{name}_std": (name, "std")}
    grouped: pd.DataFrame = table.groupby(list(NAMES), sort=False).agg(**columns)
    return in_order(grouped.reset_index(), run.datasets)
