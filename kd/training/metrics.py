"""Accuracy."""

from __future__ import annotations

from torch import Tensor


def topk_accuracy(logits: Tensor, labels: Tensor, k: int) -> float:
    """Percent of samples whose label is among the k largest logits.

    Args:
        logits: (N, classes).
        labels: (N,) class ids.
        k: if larger than the number of classes, every sample counts.
    """
    top = logits.topk(min(k, logits.shape[1]), dim=1).indices
    return 100 * (top == labels[:, None]).any(dim=1).double().mean().item()


def accuracies(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """acc@1 and acc@5 in percent."""
    return {f"acc@{k}": topk_accuracy(logits, labels, k) for k in (1, 5)}
