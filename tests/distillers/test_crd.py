"""CRD and its memory, against a slow, loop-by-loop reading of its formula."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kd.distillers.crd import UNSEEN, Method
from tests.distillers.building import cross_entropy, make_batch, normal, scalar_product, unit

SAMPLES, SIZE = 12, 4
LOGITS = normal(0, SIZE, 5).float()
LABELS, ROWS = torch.tensor([0, 3, 1, 1]), torch.tensor([7, 2, 11, 0])
VECTORS = (normal(1, SIZE, 6).float(), normal(2, SIZE, 9).float())


def make(seed: int = 0, **options: Any) -> tuple[Method, nn.ModuleDict]:
    torch.manual_seed(seed)
    method = Method(dimensions=3, **options)
    auxiliary = method.auxiliary({"L1": (6,)}, {"L1": (9,)}, SAMPLES)
    assert isinstance(auxiliary, nn.ModuleDict)
    return method, auxiliary


def loss_of(method: Method, auxiliary: nn.Module, labels: Tensor = LABELS, seed: int = 0) -> Tensor:
    own, wanted = VECTORS
    batch = make_batch(labels, ROWS, seed=seed)
    return method.loss({"logits": LOGITS, "L1": own}, {"L1": wanted}, batch, auxiliary)


def embedded(auxiliary: nn.ModuleDict) -> list[list[list[float]]]:
    """Of each side: unit vectors of the batch."""
    both = zip(("student", "teacher"), VECTORS, strict=True)
    return [[unit(vector) for vector in auxiliary[side](vectors).tolist()] for side, vectors in both]


def slow_loss(
    method: Method,
    auxiliary: nn.ModuleDict,
    drawn: list[int],
    classes: list[int],
    log_z: list[float] | None = None,
    labels: Tensor = LABELS,
) -> tuple[float, list[float]]:
    """With the logarithms of Z."""
    memory, both = auxiliary.get_buffer("memory").tolist(), embedded(auxiliary)
    total, logarithms = 0.0, []
    for side in range(2):
        places = memory[1 - side]
        others = [
            [k for k in drawn if classes[k] != label and k != row]
            for label, row in zip(labels.tolist(), ROWS.tolist(), strict=True)
        ]
        scores = [
            [scalar_product(vector, places[k]) / method.temperature for k in (row, *rest)]
            for vector, row, rest in zip(both[side], ROWS.tolist(), others, strict=True)
        ]
        powers = [math.exp(score) for row in scores for score in row]
        logarithms.append(math.log(sum(powers) / len(powers)) if log_z is None else log_z[side])
        for row in scores:
            ratios = [math.exp(score - logarithms[side]) for score in row]
            chances = [ratio / (ratio + max(1, len(row) - 1)) for ratio in ratios]
            total -= (math.log(chances[0]) + sum(math.log(1 - chance) for chance in chances[1:])) / SIZE
    return method.weight * total + method.label_weight * cross_entropy(LOGITS, labels), logarithms


def test_loss__equals_slow_reference() -> None:
    method, auxiliary = make(temperature=0.5, weight=3, label_weight=2)
    classes = [UNSEEN] * SAMPLES
    expected, log_z = slow_loss(method, auxiliary, list(range(SAMPLES)), classes)
    assert loss_of(method, auxiliary).item() == pytest.approx(expected, rel=1e-5)
    assert auxiliary.get_buffer("log_z").tolist() == pytest.approx(log_z, rel=1e-5)
    # In the next step classes are known and Z stays.
    for row, label in zip(ROWS.tolist(), LABELS.tolist(), strict=True):
        classes[row] = label
    expected, _ = slow_loss(method, auxiliary, list(range(SAMPLES)), classes, log_z)
    assert loss_of(method, auxiliary).item() == pytest.approx(expected, rel=1e-5)


def test_loss__draws_by_the_seed_of_the_batch_alone() -> None:
    method, auxiliary = make(negatives=5)
    auxiliary.eval()
    drawn = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(3))[:5].tolist()
    expected, _ = slow_loss(method, auxiliary, drawn, [UNSEEN] * SAMPLES)
    before = torch.default_generator.get_state()
    assert loss_of(method, auxiliary, seed=3).item() == pytest.approx(expected, rel=1e-5)
    assert torch.equal(torch.default_generator.get_state(), before)
    assert len({loss_of(method, auxiliary, seed=seed).item() for seed in (0, 1, 2, 2**64 - 1)}) > 1


def test_loss__of_a_single_class_has_no_negatives() -> None:
    method, auxiliary = make()
    auxiliary.get_buffer("classes").fill_(1)
    labels = torch.ones(SIZE, dtype=torch.int64)
    expected, _ = slow_loss(method, auxiliary, list(range(SAMPLES)), [1] * SAMPLES, labels=labels)
    assert loss_of(method, auxiliary, labels).item() == pytest.approx(expected, rel=1e-5)


def test_memory__moves_in_training_only() -> None:
    method, auxiliary = make(momentum=0.25)
    before = {name: value.clone() for name, value in auxiliary.state_dict().items()}
    auxiliary.eval()
    loss_of(method, auxiliary)
    assert all(torch.equal(value, before[name]) for name, value in auxiliary.state_dict().items())
    auxiliary.train()
    loss_of(method, auxiliary)
    memory, old = auxiliary.get_buffer("memory"), before["memory"]
    for side, vectors in enumerate(embedded(auxiliary)):
        for row, vector in zip(ROWS.tolist(), vectors, strict=True):
            kept = old[side, row].tolist()
            expected = unit([0.25 * a + 0.75 * b for a, b in zip(kept, vector, strict=True)])
            assert memory[side, row].tolist() == pytest.approx(expected, abs=1e-6)
    others = [row for row in range(SAMPLES) if row not in ROWS.tolist()]
    assert torch.equal(memory[:, others], old[:, others])
    assert auxiliary.get_buffer("classes")[ROWS].tolist() == LABELS.tolist()
    assert (auxiliary.get_buffer("classes")[others] == UNSEEN).all()


def test_memory__is_in_the_state_and_training_goes_on_from_it() -> None:
    method, auxiliary = make()
    shapes = {name: tuple(value.shape) for name, value in auxiliary.state_dict().items()}
    assert shapes == {
        "student.weight": (3, 6),
        "student.bias": (3,),
        "teacher.weight": (3, 9),
        "teacher.bias": (3,),
        "memory": (2, SAMPLES, 3),
        "classes": (SAMPLES,),
        "log_z": (2,),
        "started": (),
    }
    loss_of(method, auxiliary)
    _, again = make(seed=1)
    again.load_state_dict(auxiliary.state_dict())
    assert loss_of(method, auxiliary).item() == loss_of(method, again).item()


def test_memory__gets_no_gradient_and_both_layers_do() -> None:
    method, auxiliary = make()
    torch.autograd.backward(loss_of(method, auxiliary))
    assert not auxiliary.get_buffer("memory").requires_grad
    assert all(each.grad is not None and each.grad.any() for each in auxiliary.parameters())
