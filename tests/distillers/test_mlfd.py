"""MLFD's loss against a slow, loop-by-loop reading of its formula."""

from __future__ import annotations

import math

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kd.models.alignment import AlignedOutputs
from kd.models.targets import Targets
from torch import Tensor

from kd.distillers import mlfd


def softmax(values: list[float]) -> list[float]:
    highest = max(values)
    powers = [math.exp(value - highest) for value in values]
    return [power / sum(powers) for power in powers]


def slow_loss(student: AlignedOutputs, targets: Targets, labels: list[int], options: mlfd.Options) -> float:
    temperature, batch = options.temperature, len(labels)
    soft = hard = 0.0
    for row in range(batch):
        own = student.logits[row].tolist()
        wanted = softmax([value / temperature for value in targets.logits[row].tolist()])
        softened = softmax([value / temperature for value in own])
        soft -= sum(p * math.log(max(q, 1e-300)) for p, q in zip(wanted, softened, strict=True)) / batch
        hard -= math.log(max(softmax(own)[labels[row]], 1e-300)) / batch
    soft *= temperature**2
    pairs = [(student.maps[level], targets.maps[level]) for level in student.maps]
    if student.vector is not None and targets.vector is not None:
        pairs.append((student.vector, targets.vector))
    errors: list[float] = []
    for left, right in pairs:
        differences = zip(left.flatten().tolist(), right.flatten().tolist(), strict=True)
        errors.append(sum((a - b) ** 2 for a, b in differences) / left.numel())
    feature = sum(errors) / len(errors) if errors else 0.0
    label_weight = options.label_weight if targets.maps else 1 - options.soft_weight
    return options.soft_weight * soft + options.feature_weight * feature + label_weight * hard


def outputs(seed: int, maps: bool, vector: bool) -> tuple[AlignedOutputs, Targets, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    shapes = {"L3": (4, 6, 4, 4), "L2": (4, 8, 2, 2)} if maps else {}
    targets = Targets(draw(4, 5), draw(4, 7), {level: draw(*shape) for level, shape in shapes.items()})
    own = AlignedOutputs(draw(4, 5), draw(4, 7) if vector else None, {key: draw(*s) for key, s in shapes.items()})
    return own, targets, torch.randint(5, (4,), generator=generator)


@pytest.mark.parametrize("maps", [False, True])
@pytest.mark.parametrize("vector", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_loss__equals_slow_reference(maps: bool, vector: bool, temperature: float) -> None:
    options = mlfd.Options(temperature=temperature, soft_weight=0.5, feature_weight=0.3, label_weight=0.7)
    own, targets, labels = outputs(3, maps, vector)
    expected = slow_loss(own, targets, labels.tolist(), options)
    assert mlfd.loss(own, targets, labels, options).item() == pytest.approx(expected, rel=1e-9)


@settings(max_examples=50, deadline=None)
@given(
    arrays.arrays(np.float64, (3, 4), elements=st.floats(-100, 100)),
    arrays.arrays(np.float64, (3, 4), elements=st.floats(-100, 100)),
)
def test_loss__is_finite_with_finite_gradients(own: np.ndarray, wanted: np.ndarray) -> None:
    logits = torch.from_numpy(own).requires_grad_()
    targets = Targets(torch.from_numpy(wanted), torch.zeros(3, 1))
    loss = mlfd.loss(AlignedOutputs(logits), targets, torch.tensor([0, 1, 2]), mlfd.Options())
    torch.autograd.backward(loss)
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_loss__is_least_where_student_equals_teacher() -> None:
    own, targets, labels = outputs(0, True, False)
    options = mlfd.Options(soft_weight=0.5, label_weight=0.0)
    same = AlignedOutputs(targets.logits, None, targets.maps)
    assert mlfd.loss(same, targets, labels, options) < mlfd.loss(own, targets, labels, options)
    assert mlfd.loss(same, targets, labels, mlfd.Options(soft_weight=0, label_weight=0)).item() == 0


def test_uses_maps__not_without_weight() -> None:
    assert mlfd.uses_maps(mlfd.Options())
    assert not mlfd.uses_maps(mlfd.Options(feature_weight=0))
    assert not mlfd.uses_vector(mlfd.Options())
    assert mlfd.uses_vector(mlfd.Options(feature_on_vector=True))
