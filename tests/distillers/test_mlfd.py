"""MLFD's loss against a slow, loop-by-loop reading of its formula."""

from __future__ import annotations

import math

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from kd.distillers.base import Required
from kd.distillers.mlfd import Method
from tests.distillers.building import STUDENT, TEACHER, batch_of, cross_entropy, draw, log_softmax, normal

SHAPES = {"logits": (5,), "L1": (7,), "L3": (6, 4, 4), "L2": (8, 2, 2)}


def slow_loss(student: dict[str, Tensor], teacher: dict[str, Tensor], labels: Tensor, method: Method) -> float:
    temperature, size = method.temperature, len(labels)
    soft = 0.0
    for row in range(size):
        wanted, softened = (
            log_softmax([value / temperature for value in each["logits"][row].tolist()]) for each in (teacher, student)
        )
        soft -= sum(math.exp(p) * q for p, q in zip(wanted, softened, strict=True)) * temperature**2 / size
    errors = []
    for name in teacher.keys() - {"logits"}:
        differences = zip(student[name].flatten().tolist(), teacher[name].flatten().tolist(), strict=True)
        errors.append(sum((a - b) ** 2 for a, b in differences) / teacher[name].numel())
    feature = sum(errors) / len(errors) if errors else 0.0
    label_weight = method.label_weight if {"L2", "L3"} & teacher.keys() else 1 - method.soft_weight
    hard = cross_entropy(student["logits"], labels)
    return method.soft_weight * soft + method.feature_weight * feature + label_weight * hard


def values(seed: int, *, maps: bool, vector: bool) -> dict[str, Tensor]:
    shown = {"logits"} | ({"L3", "L2"} if maps else set()) | ({"L1"} if vector else set())
    return {name: value for name, value in draw(SHAPES, 4, seed).items() if name in shown}


def loss_of(method: Method, own: dict[str, Tensor], wanted: dict[str, Tensor], labels: Tensor) -> Tensor:
    auxiliary = nn.ModuleDict({name: nn.Identity() for name in ("L1", "L2", "L3")})
    return method.loss(own, wanted, batch_of(labels), auxiliary)


@pytest.mark.parametrize("maps", [False, True])
@pytest.mark.parametrize("vector", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_loss__equals_slow_reference(maps: bool, vector: bool, temperature: float) -> None:
    method = Method(temperature=temperature, soft_weight=0.5, feature_weight=0.3, label_weight=0.7)
    own, wanted = values(3, maps=maps, vector=vector), values(30, maps=maps, vector=vector)
    labels = torch.tensor([0, 3, 4, 4])
    expected = slow_loss(own, wanted, labels, method)
    assert loss_of(method, own, wanted, labels).item() == pytest.approx(expected, rel=1e-9)


@settings(max_examples=50, deadline=None)
@given(
    arrays.arrays(np.float64, (3, 4), elements=st.floats(-100, 100)),
    arrays.arrays(np.float64, (3, 4), elements=st.floats(-100, 100)),
)
def test_loss__is_finite_with_finite_gradients(own: np.ndarray, wanted: np.ndarray) -> None:
    logits = torch.from_numpy(own).requires_grad_()
    loss = loss_of(Method(), {"logits": logits}, {"logits": torch.from_numpy(wanted)}, torch.tensor([0, 1, 2]))
    torch.autograd.backward(loss)
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_loss__is_least_where_student_equals_teacher() -> None:
    own, wanted = values(0, maps=True, vector=False), values(10, maps=True, vector=False)
    labels = torch.tensor([0, 3, 4, 4])
    method = Method(soft_weight=0.5, label_weight=0.0)
    assert loss_of(method, wanted, wanted, labels) < loss_of(method, own, wanted, labels)
    assert loss_of(Method(soft_weight=0, label_weight=0), wanted, wanted, labels).item() == 0


def test_needs__no_features_without_weight() -> None:
    assert Method().required("L3") == Required(("L3", "L2"), logits=True)
    assert Method().required("L1") == Required(logits=True)
    assert Method(feature_weight=0, feature_on_vector=True).required("L3") == Required(logits=True)
    assert Method(feature_on_vector=True).required("L2") == Required(("L1", "L2"), logits=True)


def test_parts__project_what_differs_in_width() -> None:
    levels = ("L1", "L2", "L3")
    shapes = [{name: each[name] for name in ("logits", *levels)} for each in (STUDENT, TEACHER)]
    auxiliary = Method(feature_on_vector=True).auxiliary(shapes[0], shapes[1], samples=10)
    assert isinstance(auxiliary, nn.ModuleDict)
    assert auxiliary["L1"](normal(0, 2, 6).float()).shape == (2, 9)
    assert auxiliary["L2"](normal(0, 2, 4, 2, 2).float()).shape == (2, 5, 2, 2)
    same = Method().auxiliary(shapes[0], shapes[0], samples=10)
    assert isinstance(same, nn.ModuleDict)
    assert all(isinstance(each, nn.Identity) for each in same.values())
