"""Whether networks are as sure as they are right.

Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", ICML 2017: the expected calibration error
(equations 2, 3 and 5) and reliability diagrams. Of a sample of a single-label dataset counts the probability of the
class that is predicted, and whether the prediction is right; of one of a multi-label dataset the probability of each
label, and whether the sample has it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from kd.reporting.predictions import hits
from kd.training.predictions import Predictions

BINS = 15
"""Bins of equal width in 0..1, each without its lower edge and with its upper one; the first has 0, too."""
BLOCK = 1 << 20  # probabilities that are worked on at a time


@dataclass(frozen=True)
class Calibration:
    """Of a network on the test split of a dataset.

    Attributes:
        bins: (3, BINS) float64: how many probabilities are in each bin, their sum, and how many are of what is so.
        nll: negative log-likelihood in nats: of the class, mean over samples; multi-label: binary cross-entropy, mean
            over samples and labels.
    """

    bins: np.ndarray
    nll: float

    @property
    def ece(self) -> float:
        """Expected calibration error in percent (equation 3): the gaps of the bins, each by its probabilities."""
        count, confidence, right = self.bins
        return float(100 * np.abs(right - confidence).sum() / count.sum())

    @property
    def confidence(self) -> float:
        """Mean probability in percent."""
        return float(100 * self.bins[1].sum() / self.bins[0].sum())

    @property
    def accuracy(self) -> float:
        """Percent of probabilities that are of what is so: acc@1; multi-label: the share of labels that are there."""
        return float(100 * self.bins[2].sum() / self.bins[0].sum())


def calibration(predictions: Predictions) -> Calibration:
    """How well calibrated a network is; in float64, some rows at a time."""
    samples, classes = predictions.logits.shape
    multi_label = predictions.labels.ndim == 2
    right = predictions.labels > 0 if multi_label else hits(predictions)
    bins, loss = np.zeros((3, BINS)), 0.0
    step = max(1, BLOCK // classes)
    for start in range(0, samples, step):
        rows = slice(start, start + step)
        logits = predictions.logits[rows].astype(np.float64)
        if multi_label:
            confidence = expit(logits)
            loss += float((np.logaddexp(0, logits) - logits * right[rows]).sum())
        else:
            highest = logits.max(axis=1)
            rest = np.log(np.exp(logits - highest[:, None]).sum(axis=1))
            confidence = np.exp(-rest)
            own = np.take_along_axis(logits, predictions.labels[rows, None], axis=1)[:, 0]
            loss += float((highest + rest - own).sum())
        bins += _binned(confidence.ravel(), right[rows].ravel())
    return Calibration(bins, loss / right.size)


def reliability(bins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean probability, and how often it is of what is so, of each bin that is not empty, in percent.

    Args:
        bins: as in `Calibration`, or the sum over several networks.
    """
    count, confidence, right = bins[:, bins[0] > 0]
    return 100 * confidence / count, 100 * right / count


def _binned(confidence: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(3, BINS): how many, sum of confidences, how many are right."""
    bins = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    weights = (None, confidence, right)
    return np.stack([np.bincount(bins, weights=each, minlength=BINS) for each in weights])
