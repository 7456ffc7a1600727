"""How good predictions are, in percent.

Single-label datasets: accuracy, and average precision of the probabilities. Multi-label datasets: average precision and
F1, in the two versions of F1 that are in use. All means over classes leave out classes without positives, of which
nothing can be measured. Scores are ranked and compared as logits, probabilities of one label among all by their
logarithms in float64: a sigmoid or softmax would keep their order, but rounds to 1 above 17 in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kd.common.errors import UserError
from kd.data.options import Task

if TYPE_CHECKING:
    from torch import Tensor


class NotFiniteError(UserError):
    """Predictions of which nothing can be measured."""


PRIMARY: dict[Task, str] = {"single_label": "acc@1", "multi_label": "mAP"}
"""What epochs are selected by, and what figures show."""
VAL = "val_"
"""Begins the name of a metric that was measured on val: choices are made by it."""
MULTI_LABEL_METRICS = ("mAP", "OF1@k", "CF1@k", "OF1", "CF1")
"""Metrics in the order of the L2D paper's tables, then those that it does not report."""


def measure(task: Task, logits: Tensor, labels: Tensor, whose: str = "a network") -> dict[str, float]:
    """All metrics of a task, by name, in percent.

    Args:
        task: of the dataset.
        logits: (N, classes) float32 on the CPU, N > 0.
        labels: (N,) class ids; or, multi-label, (N, classes) of 0 and 1.
        whose: network and samples, for the error.

    Raises:
        NotFiniteError: logits are not finite; ranked, they would give numbers that mean nothing.
    """
    _check_finite(logits, whose)
    if task == "single_label":
        accuracies = {f"acc@{k}": topk_accuracy(logits, labels, k) for k in (1, 5)}
        own = labels[:, None] == labels.new_tensor(range(logits.shape[1]))
        return accuracies | {"mAP": mean_average_precision(logits.double().log_softmax(dim=1), own)}
    scores = f1_scores(logits, labels) | {"mAP": mean_average_precision(logits, labels)}
    return {name: scores[name] for name in MULTI_LABEL_METRICS}


def primary(task: Task, logits: Tensor, labels: Tensor, whose: str = "a network") -> float:
    """The metric of a task that says which epoch is best, alone: for each epoch. All else is as in `measure`."""
    _check_finite(logits, whose)
    if task == "single_label":
        return topk_accuracy(logits, labels, 1)
    return mean_average_precision(logits, labels)


def _check_finite(logits: Tensor, whose: str) -> None:
    bad = int((~logits.isfinite()).any(dim=1).sum())
    if bad:
        raise NotFiniteError(f"logits of {whose} are not finite for {bad} of {len(logits)} samples")


def metric_rows(
    task: Task, dataset: str, selection: str, classes: Sequence[str], logits: Tensor, labels: Tensor
) -> list[dict[str, Any]]:
    """Rows of a manifest for predictions: one for each metric and, multi-label, one for each class.

    Rows are {"dataset", "selection", "metric", "value"}; those of classes have the metric AP and a "class" besides,
    and the value None for a class without positives.

    Args:
        task: of the dataset.
        dataset: its name.
        selection: weights that the predictions were made with.
        classes: names of the classes, in the order of the columns of `logits`.
        logits: as in `measure`.
        labels: as in `measure`.
    """
    place = {"dataset": dataset, "selection": selection}
    measured = measure(task, logits, labels, f"the network ({selection}) on test of {dataset}")
    rows = [place | {"metric": name, "value": value} for name, value in measured.items()]
    if task == "multi_label":
        by_class = zip(classes, average_precisions(logits, labels).tolist(), strict=True)
        rows += [
            place | {"metric": "AP", "class": name, "value": None if np.isnan(value) else value}
            for name, value in by_class
        ]
    return rows


def topk_accuracy(logits: Tensor, labels: Tensor, k: int) -> float:
    """Percent of samples whose label is among the k largest logits.

    Args:
        logits: (N, classes).
        labels: (N,) class ids.
        k: if larger than the number of classes, every sample counts.
    """
    top = logits.topk(min(k, logits.shape[1]), dim=1).indices
    return 100 * (top == labels[:, None]).any(dim=1).double().mean().item()


def mean_average_precision(logits: Tensor, labels: Tensor) -> float:
    """mAP: mean over classes of `average_precisions`; 0 if no class has positives."""
    precisions = average_precisions(logits, labels)
    known = precisions[~np.isnan(precisions)]
    return float(known.mean()) if known.size else 0.0


def average_precisions(logits: Tensor, labels: Tensor) -> np.ndarray:
    """Average precision of each class in percent, (classes,) float64; NaN where a class has no positives.

    The sum over thresholds of the precision times what recall gains there, as scikit-learn's
    `average_precision_score` has it: nothing is interpolated, samples with equal scores share a threshold.

    Args:
        logits: (N, classes) float on the CPU.
        labels: (N, classes) of 0 and 1.
    """
    columns = zip(logits.numpy().T, labels.numpy().T > 0, strict=True)
    return np.array([_average_precision(scores, positive) for scores, positive in columns])


def _average_precision(scores: np.ndarray, positive: np.ndarray) -> float:
    """Average precision of one class."""
    if not positive.any():
        return np.nan
    order = np.argsort(-scores)
    ranked = scores[order]
    thresholds = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # the last of each run of equals
    found = positive[order].cumsum()[thresholds]
    gained = np.diff(found, prepend=0)
    return float(100 * (gained * found / (thresholds + 1)).sum() / found[-1])


def f1_scores(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """F1 over all labels (O) and over classes (C), at a threshold and with as many labels as an image truly has.

    OF1, CF1: predicted is what has a probability of 0.5 or more. OF1 counts all labels of all images alike;
    CF1 = 2 CP CR / (CP + CR) of mean precision CP and mean recall CR over classes, where the precision of a class
    that is never predicted is 0.

    OF1@k, CF1@k: predicted are the k largest logits of an image, where k is the number of its own labels (L2D's
    `evaluate.py`): those above the largest but k. So there are as many predicted labels as true ones, and precision
    and recall over all labels are both OF1@k, unless ties leave some images fewer. CF1@k is the mean of the F1 of
    each class.

    What would be 0 / 0 is 0. Arguments are those of `average_precisions`.
    """
    scores, positive = logits.numpy(), labels.numpy() > 0
    counts = positive.sum(axis=1)
    descending = np.column_stack([-np.sort(-scores, axis=1), np.full(len(scores), -np.inf)])
    ranked = scores > descending[np.arange(len(scores)), counts][:, None]
    return _f1_at_threshold(scores >= 0, positive) | {
        "OF1@k": 100 * float(_f1(ranked.ravel(), positive.ravel())),
        "CF1@k": 100 * _mean(_f1(ranked, positive)[positive.any(axis=0)]),
    }


def _f1_at_threshold(predicted: np.ndarray, positive: np.ndarray) -> dict[str, float]:
    known = positive.any(axis=0)
    hits = (predicted & positive).sum(axis=0)
    precision = _mean(_ratio(hits, predicted.sum(axis=0))[known])
    recall = _mean(_ratio(hits, positive.sum(axis=0))[known])
    return {
        "OF1": 100 * float(_f1(predicted.ravel(), positive.ravel())),
        "CF1": 100 * float(_ratio(2 * precision * recall, precision + recall)),
    }


def _f1(predicted: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """2 TP / (predicted + positive), over the first axis."""
    return _ratio(2 * (predicted & positive).sum(axis=0), predicted.sum(axis=0) + positive.sum(axis=0))


def _ratio(numerator: Any, denominator: Any) -> np.ndarray:
    """Elementwise quotient, 0 where it would be 0 / 0."""
    quotient = np.zeros(np.shape(denominator))
    np.divide(numerator, denominator, out=quotient, where=np.asarray(denominator) > 0)
    return quotient


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else 0.0
