"""Methods that compare relations between vectors, against slow, loop-by-loop readings of their formulas."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kd.distillers import losses, pkt, rkd
from kd.distillers.base import Distiller
from tests.distillers.building import (
    batch_of,
    cross_entropy,
    difference_of_structure,
    normal,
    scalar_product,
    smooth_l1,
    unit,
)

SIZE, WIDTH = 6, 4
LABELS = torch.tensor([0, 3, 1, 1, 2, 4])
LOGITS = normal(0, SIZE, 5)
BOTH: tuple[Distiller, ...] = (rkd.Method(label_weight=0), pkt.Method(label_weight=0))
seeds = st.integers(0, 2**31)


def loss_of(method: Distiller, own: Tensor, wanted: Tensor) -> Tensor:
    return method.loss({"logits": LOGITS, "L1": own}, {"L1": wanted}, batch_of(LABELS), None)


def slow_angles(points: list[list[float]]) -> list[float]:
    size = range(len(points))
    units = [[unit([a - b for a, b in zip(points[j], points[i], strict=True)]) for j in size] for i in size]
    return [scalar_product(units[i][j], units[i][k]) for i in size for j in size for k in size]


def slow_rkd(own: list[list[float]], wanted: list[list[float]]) -> tuple[float, float]:
    angles = [smooth_l1(a - b) for a, b in zip(slow_angles(own), slow_angles(wanted), strict=True)]
    return difference_of_structure(own, wanted) / len(own) ** 2, sum(angles) / len(angles)


def slow_pkt(own: list[list[float]], wanted: list[list[float]]) -> float:
    def probabilities(points: list[list[float]]) -> list[float]:
        cosines = [[(scalar_product(unit(a), unit(b)) + 1) / 2 for b in points] for a in points]
        return [value / sum(row) for row in cosines for value in row]

    pairs = zip(probabilities(own), probabilities(wanted), strict=True)
    return sum(p * math.log((p + 1e-7) / (q + 1e-7)) for q, p in pairs) / len(own) ** 2


@pytest.mark.parametrize("coinciding", [0, 2, 3, SIZE])
@pytest.mark.parametrize("side", ["student", "teacher"])
def test_all__equal_slow_references(coinciding: int, side: str) -> None:
    own, wanted = normal(1, SIZE, WIDTH), normal(2, SIZE, WIDTH + 2)
    (own if side == "student" else wanted)[:coinciding] = 1.5
    base = 2 * cross_entropy(LOGITS, LABELS)
    apart, angle = slow_rkd(own.tolist(), wanted.tolist())
    method = rkd.Method(distance_weight=3, angle_weight=5, label_weight=2)
    assert loss_of(method, own, wanted).item() == pytest.approx(3 * apart + 5 * angle + base, rel=1e-9)
    expected = 7 * slow_pkt(own.tolist(), wanted.tolist()) + base
    assert loss_of(pkt.Method(weight=7, label_weight=2), own, wanted).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("method", BOTH)
def test_all__are_0_where_the_student_equals_the_teacher(method: Distiller) -> None:
    vectors = normal(1, SIZE, WIDTH).float()
    assert loss_of(method, vectors, vectors).item() == 0


def rotation(seed: int, width: int) -> Tensor:
    orthogonal: Tensor = torch.linalg.qr(normal(seed, width, width))[0]
    return orthogonal


@settings(max_examples=50, deadline=None)
@given(seeds, st.floats(0.01, 100), st.floats(-10, 10))
def test_rkd__does_not_see_rotation_translation_and_scale(seed: int, scale: float, shift: float) -> None:
    own, wanted = normal(seed, SIZE, WIDTH), normal(seed + 1, SIZE, WIDTH)
    moved = scale * own @ rotation(seed, WIDTH) + shift
    torch.testing.assert_close(loss_of(BOTH[0], moved, wanted), loss_of(BOTH[0], own, wanted), rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(loss_of(BOTH[0], moved, own), torch.zeros_like(LOGITS[0, 0]), rtol=0, atol=1e-10)


@settings(max_examples=50, deadline=None)
@given(seeds, st.lists(st.floats(0.01, 100), min_size=SIZE, max_size=SIZE))
def test_pkt__does_not_see_rotation_and_lengths(seed: int, lengths: list[float]) -> None:
    own, wanted = normal(seed, SIZE, WIDTH), normal(seed + 1, SIZE, WIDTH)
    moved = torch.tensor(lengths, dtype=own.dtype).unsqueeze(1) * own @ rotation(seed, WIDTH)
    torch.testing.assert_close(loss_of(BOTH[1], moved, wanted), loss_of(BOTH[1], own, wanted), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("method", BOTH)
@pytest.mark.parametrize("coinciding", [2, SIZE])
def test_all__give_coinciding_points_gentle_gradients(method: Distiller, coinciding: int) -> None:
    """Equal gradients, too: nothing says which of them goes where."""
    own, wanted = normal(1, SIZE, WIDTH), normal(2, SIZE, WIDTH)
    own[:coinciding], wanted[:coinciding] = own[0].clone(), wanted[0].clone()
    own.requires_grad_()
    torch.autograd.backward(loss_of(method, own, wanted))
    assert own.grad is not None
    assert own.grad.abs().max() < 1e5
    torch.testing.assert_close(own.grad[1], own.grad[0])


@pytest.mark.parametrize("method", BOTH)
def test_all__have_the_gradients_of_finite_differences(method: Distiller) -> None:
    own, wanted = normal(1, 4, 3).requires_grad_(), normal(2, 4, 3)

    def loss(vectors: Tensor) -> Tensor:
        outputs = {"logits": LOGITS[:4], "L1": vectors}
        return method.loss(outputs, {"L1": wanted}, batch_of(LABELS[:4]), None) / 1000

    assert torch.autograd.gradcheck(loss, (own,))


def test_relative_distances__are_the_same_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    points = normal(1, 7, 3).requires_grad_()
    first, second = torch.triu_indices(7, 7, 1)
    pairs = (first, second, (first > 3).long(), 2)
    whole = losses.relative_distances(points, *pairs)
    (expected,) = torch.autograd.grad(whole.square().sum(), points)
    monkeypatch.setattr(losses, "PAIRS_AT_ONCE", 4)
    chunked = losses.relative_distances(points, *pairs)
    (found,) = torch.autograd.grad(chunked.square().sum(), points)
    torch.testing.assert_close(chunked, whole, rtol=0, atol=0)
    torch.testing.assert_close(found, expected)
    assert torch.autograd.gradcheck(lambda each: losses.relative_distances(each, *pairs), (points,))
