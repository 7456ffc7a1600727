"""Methods that compare logits, against slow, loop-by-loop readings of their formulas."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kd.distillers import dkd, kd, mld, mse, ps, vanilla
from kd.distillers.base import Distiller, Reduction, Required
from tests.distillers.building import (
    batch_of,
    bernoulli,
    binary_cross_entropy,
    cross_entropy,
    divergence,
    log_sum,
    normal,
    squares,
)

SIZE, CLASSES = 6, 5
LABELS = torch.tensor([0, 3, 1, 1, 2, 4])
MULTI_HOT = torch.tensor([[1, 0, 1, 0, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1], [0, 0, 0, 1, 0], [0, 1, 1, 0, 1], [0] * 5])
SCALES = (1.0, 10.0, 100.0)


def pair(scale: float, classes: int = CLASSES) -> tuple[Tensor, Tensor]:
    return scale * normal(1, SIZE, classes), scale * normal(2, SIZE, classes)


def loss_of(method: Distiller, own: Tensor, wanted: Tensor, labels: Tensor, epoch: int = 0) -> Tensor:
    return method.loss({"logits": own}, {"logits": wanted}, batch_of(labels, epoch), None)


def softened(logits: Tensor, temperature: float) -> list[list[float]]:
    rows: list[list[float]] = (logits / temperature).tolist()
    return rows


@pytest.mark.parametrize("scale", SCALES)
def test_vanilla__is_the_label_loss(scale: float) -> None:
    own, _ = pair(scale)
    for labels, expected in (
        (LABELS, cross_entropy(own, LABELS)),
        (MULTI_HOT, binary_cross_entropy(own, MULTI_HOT) / SIZE),
    ):
        loss = vanilla.Method(label_weight=2).loss({"logits": own}, {}, batch_of(labels), None)
        assert loss.item() == pytest.approx(2 * expected, rel=1e-9)
    assert vanilla.Method().required(None) == Required()


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_kd__equals_slow_reference(scale: float, temperature: float) -> None:
    own, wanted = pair(scale)
    method = kd.Method(temperature=temperature, soft_weight=0.7, label_weight=0.2)
    rows = zip(softened(wanted, temperature), softened(own, temperature), strict=True)
    soft = sum(divergence(theirs, ours) for theirs, ours in rows) / SIZE * temperature**2
    expected = 0.7 * soft + 0.2 * cross_entropy(own, LABELS)
    assert loss_of(method, own, wanted, LABELS).item() == pytest.approx(expected, rel=1e-9)


def slow_dkd(own: Tensor, wanted: Tensor, labels: list[int], method: dkd.Method) -> float:
    total = 0.0
    rows = zip(softened(wanted, method.temperature), softened(own, method.temperature), labels, strict=True)
    for theirs, ours, label in rows:
        margins = [each[label] - log_sum(each[:label] + each[label + 1 :]) for each in (theirs, ours)]
        target_class = bernoulli(*margins)
        others_class = divergence(theirs[:label] + theirs[label + 1 :], ours[:label] + ours[label + 1 :])
        total += method.alpha * target_class + method.beta * others_class
    return total / len(labels) * method.temperature**2


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(("epoch", "share"), [(0, 0.25), (2, 0.75), (3, 1.0), (9, 1.0)])
def test_dkd__equals_slow_reference(scale: float, epoch: int, share: float) -> None:
    own, wanted = pair(scale)
    method = dkd.Method(alpha=1.5, beta=6, temperature=3, warmup=4, label_weight=0.5)
    expected = 0.5 * cross_entropy(own, LABELS) + share * slow_dkd(own, wanted, LABELS.tolist(), method)
    assert loss_of(method, own, wanted, LABELS, epoch).item() == pytest.approx(expected, rel=1e-9)


def test_dkd__of_two_classes_has_nothing_among_others() -> None:
    own, wanted = pair(1, classes=2)
    labels = LABELS.clamp(max=1)
    none, much = (dkd.Method(beta=beta, warmup=1) for beta in (0, 100))
    assert loss_of(none, own, wanted, labels).item() == pytest.approx(loss_of(much, own, wanted, labels).item())


def test_dkd__with_the_paper_s_coupling_is_kd() -> None:
    """KD is the target class's part plus, weighted by what the teacher gives the others, the others' part."""
    own, wanted = pair(1)
    own[1:], wanted[1:] = own[0], wanted[0]
    labels = torch.zeros(SIZE, dtype=torch.int64)
    coupling = 1 - wanted[0].softmax(0)[0].item()
    coupled = dkd.Method(alpha=1, beta=coupling, temperature=1, warmup=1, label_weight=0)
    plain = kd.Method(temperature=1, soft_weight=1, label_weight=0)
    assert loss_of(coupled, own, wanted, labels).item() == pytest.approx(loss_of(plain, own, wanted, labels).item())


def slow_mse(own: Tensor, wanted: Tensor, _labels: Tensor) -> float:
    pairs = zip(own.flatten().tolist(), wanted.flatten().tolist(), strict=True)
    return squares(a - b for a, b in pairs) / len(own)


def slow_ps(own: Tensor, wanted: Tensor, labels: Tensor) -> float:
    total = 0.0
    for ours, theirs, row in zip(own.tolist(), wanted.tolist(), labels.tolist(), strict=True):
        negatives = [label for label, present in enumerate(row) if not present]
        for positive in (label for label, present in enumerate(row) if present):
            chosen = [positive, *negatives]
            total += divergence([theirs[label] for label in chosen], [ours[label] for label in chosen])
    return total / len(own)


def slow_mld(own: Tensor, wanted: Tensor, _labels: Tensor) -> float:
    pairs = zip(own.flatten().tolist(), wanted.flatten().tolist(), strict=True)
    return sum(bernoulli(theirs, ours) for ours, theirs in pairs) / len(own)


METHODS = {"mse": (mse.Method, slow_mse), "ps": (ps.Method, slow_ps), "mld": (mld.Method, slow_mld)}


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", METHODS)
def test_multi_label__equals_slow_reference(name: str, scale: float) -> None:
    make, slow = METHODS[name]
    own, wanted = pair(scale)
    base, term = binary_cross_entropy(own, MULTI_HOT), slow(own, wanted, MULTI_HOT)
    expected: dict[Reduction, float] = {
        "paper": 0.5 * base + 3 * term,
        "batch_mean": 0.5 * base / SIZE + 3 / 64 * term,
    }
    for reduction, value in expected.items():
        method = make(weight=3, label_weight=0.5, reduction=reduction)
        assert loss_of(method, own, wanted, MULTI_HOT).item() == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("reduction", ["paper", "batch_mean"])
def test_mse__of_single_labels_knows_no_reduction(reduction: Reduction) -> None:
    own, wanted = pair(1)
    method = mse.Method(weight=3, label_weight=0.5, reduction=reduction)
    expected = 0.5 * cross_entropy(own, LABELS) + 3 * slow_mse(own, wanted, LABELS)
    assert loss_of(method, own, wanted, LABELS).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_mld__temperature_softens_both(temperature: float) -> None:
    own, wanted = pair(5)
    method = mld.Method(weight=1, temperature=temperature, label_weight=0)
    expected = slow_mld(own / temperature, wanted / temperature, MULTI_HOT) * temperature**2
    assert loss_of(method, own, wanted, MULTI_HOT).item() == pytest.approx(expected, rel=1e-9)


def test_ps__without_positives_or_without_negatives_is_0() -> None:
    own, wanted = pair(1)
    for labels in (torch.zeros(SIZE, CLASSES), torch.ones(SIZE, CLASSES)):
        logits = own.clone().requires_grad_()
        loss = loss_of(ps.Method(label_weight=0), logits, wanted, labels)
        torch.autograd.backward(loss)
        assert loss.item() == 0
        assert logits.grad is not None
        assert not logits.grad.any()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("positives", range(CLASSES + 1))
@pytest.mark.parametrize("label", range(2))
def test_multi_label__survives_certainty(name: str, positives: int, label: int) -> None:
    """Student certain of one thing, teacher of the other, in float32."""
    make, slow = METHODS[name]
    labels = torch.zeros(2, CLASSES, dtype=torch.int64)
    labels[:, :positives] = 1
    own = torch.full((2, CLASSES), 100.0 * (2 * label - 1)).requires_grad_()
    wanted = -own.detach()
    wanted[1, ::2] = 100
    loss = loss_of(make(weight=1, label_weight=0), own, wanted, labels)
    torch.autograd.backward(loss)
    assert loss.item() == pytest.approx(slow(own.detach(), wanted, labels), rel=1e-6)
    assert own.grad is not None
    assert torch.isfinite(own.grad).all()


Logits = st.lists(st.floats(-100, 100), min_size=12, max_size=12)


@settings(max_examples=100, deadline=None)
@given(Logits, Logits)
def test_mld__gradient_is_the_difference_of_probabilities(left: list[float], right: list[float]) -> None:
    own = torch.tensor(left, dtype=torch.float64).view(3, 4).requires_grad_()
    wanted = torch.tensor(right, dtype=torch.float64).view(3, 4)
    loss = loss_of(mld.Method(weight=1, label_weight=0), own, wanted, torch.ones(3, 4))
    torch.autograd.backward(loss)
    assert loss >= -1e-12
    assert own.grad is not None
    torch.testing.assert_close(own.grad, (own.sigmoid() - wanted.sigmoid()).detach() / 3, rtol=1e-9, atol=1e-12)


@settings(max_examples=100, deadline=None)
@given(Logits, Logits, st.lists(st.booleans(), min_size=12, max_size=12))
def test_divergences__are_not_negative(left: list[float], right: list[float], present: list[bool]) -> None:
    own, wanted = (torch.tensor(each).view(3, 4) for each in (left, right))
    multi_hot, labels = torch.tensor(present).view(3, 4), torch.tensor([0, 3, 1])
    assert loss_of(ps.Method(weight=1, label_weight=0), own, wanted, multi_hot) >= -1e-4
    assert loss_of(mld.Method(weight=1, label_weight=0), own, wanted, multi_hot) >= -1e-4
    assert loss_of(kd.Method(soft_weight=1, label_weight=0), own, wanted, labels) >= -1e-3
    assert loss_of(dkd.Method(warmup=1, label_weight=0), own, wanted, labels) >= -1e-3


@pytest.mark.parametrize("scale", SCALES)
def test_all__are_0_where_the_student_equals_the_teacher(scale: float) -> None:
    logits, _ = pair(scale)
    multi: tuple[Distiller, ...] = tuple(make(label_weight=0) for make, _ in METHODS.values())
    for method in multi:
        assert loss_of(method, logits, logits, MULTI_HOT).item() == 0
    for method in (kd.Method(label_weight=0), dkd.Method(label_weight=0)):
        assert loss_of(method, logits, logits, LABELS).item() == 0
