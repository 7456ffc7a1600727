"""Outputs and batches for tests of distillers, and arithmetic on plain lists for slow references."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from kd.distillers.base import Batch, Distiller, Shapes

CLASSES = 5
STUDENT: Shapes = {
    "logits": (CLASSES,),
    "L1": (6,),
    "L2": (4, 2, 2),
    "L3": (3, 4, 4),
    "L4": (2, 8, 8),
    "label_embeddings": (CLASSES, 7),
}
TEACHER: Shapes = {
    "logits": (CLASSES,),
    "L1": (9,),
    "L2": (5, 3, 3),
    "L3": (6, 5, 5),
    "L4": (4, 10, 10),
    "label_embeddings": (CLASSES, 8),
}
"""Other widths and grids than the student's."""


def make_batch(labels: Tensor, rows: Tensor, epoch: int = 0, parts: int = 1, seed: int = 0) -> Batch:
    """A batch; as many of its size as `parts` says make that of the step."""
    return Batch(labels, rows, epoch, parts * len(labels), seed)


def batch_of(labels: Tensor, epoch: int = 0) -> Batch:
    """A batch of the first samples."""
    return make_batch(labels, torch.arange(len(labels)), epoch)


def normal(seed: int, *shape: int) -> Tensor:
    """Standard normal numbers, float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def draw(shapes: Shapes, size: int, seed: int) -> dict[str, Tensor]:
    """Random values by what they are, (size, *shape) float64."""
    return {name: normal(seed + place, size, *shape) for place, (name, shape) in enumerate(shapes.items())}


def needed(method: Distiller, shapes: Shapes) -> Shapes:
    """Shapes of what a method compares; the logits are always there."""
    return {name: shapes[name] for name in {"logits": None} | dict.fromkeys(method.required("L3").names())}


def labels_of(method: Distiller, size: int, seed: int) -> Tensor:
    """Random labels of the kind that the method is for."""
    generator = torch.Generator().manual_seed(seed)
    if "single_label" in method.TASKS:
        return torch.randint(CLASSES, (size,), generator=generator)
    return torch.randint(2, (size, CLASSES), generator=generator)


def log_sum(values: list[float]) -> float:
    """Logarithm of the sum of exponentials."""
    highest = max(values)
    return math.log(sum(math.exp(value - highest) for value in values)) + highest


def log_softmax(values: list[float]) -> list[float]:
    return [value - log_sum(values) for value in values]


def divergence(teacher: list[float], student: list[float]) -> float:
    """KL(T || S) of softmaxes, from logits."""
    wanted, own = log_softmax(teacher), log_softmax(student)
    return sum(math.exp(p) * (p - q) for p, q in zip(wanted, own, strict=True))


def bernoulli(teacher: float, student: float) -> float:
    """KL(T || S) of sigmoids, from logits."""
    return divergence([teacher, 0.0], [student, 0.0])


def squares(values: Iterable[float]) -> float:
    return sum(value * value for value in values)


def smooth_l1(difference: float) -> float:
    return 0.5 * difference**2 if abs(difference) < 1 else abs(difference) - 0.5


def distance(left: list[float], right: list[float]) -> float:
    return math.sqrt(squares(a - b for a, b in zip(left, right, strict=True)))


def scalar_product(left: list[float], right: list[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))


def unit(vector: list[float]) -> list[float]:
    length = math.sqrt(squares(vector))
    return [value / length if length else 0.0 for value in vector]


def relative(points: list[list[float]]) -> list[list[float]]:
    """Distances divided by the mean of those above 0."""
    distances = [[distance(left, right) for right in points] for left in points]
    positive = [value for row in distances for value in row if value > 0]
    mean = sum(positive) / len(positive) if positive else 1.0
    return [[value / mean for value in row] for row in distances]


def difference_of_structure(student: list[list[float]], teacher: list[list[float]]) -> float:
    """Smooth-L1 between relative distances, summed over all entries."""
    own, wanted = relative(student), relative(teacher)
    return sum(smooth_l1(own[i][j] - wanted[i][j]) for i in range(len(own)) for j in range(len(own)))


def cross_entropy(logits: Tensor, labels: Tensor) -> float:
    """Mean over the batch."""
    return sum(-log_softmax(logits[i].tolist())[int(labels[i])] for i in range(len(labels))) / len(labels)


def binary_cross_entropy(logits: Tensor, labels: Tensor) -> float:
    """Sum over batch and labels."""
    signs = (2 * labels - 1).flatten().tolist()
    return sum(-log_softmax([z * sign, 0.0])[0] for z, sign in zip(logits.flatten().tolist(), signs, strict=True))
