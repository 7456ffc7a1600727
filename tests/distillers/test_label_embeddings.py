"""CD, ID and L2D, against slow, loop-by-loop readings of their formulas."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kd.distillers import cd, l2d, mld, mse, ps
from kd.distillers import id as instance_aware
from kd.distillers.base import Distiller, Required
from tests.distillers.building import (
    batch_of,
    bernoulli,
    binary_cross_entropy,
    difference_of_structure,
    draw,
    normal,
)

SIZE, CLASSES, WIDTH = 8, 6, 5
CD, ID = cd.Method(weight=1, label_weight=0), instance_aware.Method(weight=1, label_weight=0)
ALONE: tuple[Distiller, ...] = (CD, ID)
seeds = st.integers(0, 2**31)


def labels_with(present: float, seed: int = 0, size: int = SIZE) -> Tensor:
    return (torch.rand(size, CLASSES, generator=torch.Generator().manual_seed(seed)) < present).long()


def values(seed: int, width: int = WIDTH, size: int = SIZE) -> dict[str, Tensor]:
    return draw({"logits": (CLASSES,), "label_embeddings": (CLASSES, width)}, size, seed)


def loss_of(method: Distiller, own: dict[str, Tensor], wanted: dict[str, Tensor], labels: Tensor) -> Tensor:
    return method.loss(own, wanted, batch_of(labels), None)


def slow_structure(own: Tensor, wanted: Tensor, labels: Tensor) -> float:
    """Sets along the second dimension; CD takes all three transposed."""
    total = 0.0
    for ours, theirs, row in zip(own.tolist(), wanted.tolist(), labels.tolist(), strict=True):
        members = [place for place, present in enumerate(row) if present]
        if len(members) > 2:  # two give 0 by the formula, or where they coincide on one side by definition
            total += difference_of_structure([ours[k] for k in members], [theirs[k] for k in members]) / len(members)
    return total


def slow_terms(own: dict[str, Tensor], wanted: dict[str, Tensor], labels: Tensor) -> dict[str, float]:
    ours, theirs = own["label_embeddings"], wanted["label_embeddings"]
    logits = zip(own["logits"].flatten().tolist(), wanted["logits"].flatten().tolist(), strict=True)
    return {
        "bce": binary_cross_entropy(own["logits"], labels),
        "mld": sum(bernoulli(p, q) for q, p in logits) / len(labels),
        "cd": slow_structure(ours.transpose(0, 1), theirs.transpose(0, 1), labels.T),
        "id": slow_structure(ours, theirs, labels),
    }


@pytest.mark.parametrize("present", [0.3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("coinciding", [False, True])
def test_cd_id__equal_slow_references(present: float, coinciding: bool) -> None:
    own, wanted, labels = values(1), values(10, WIDTH + 2), labels_with(present)
    if coinciding:
        own["label_embeddings"][:3, :3] = 0.5
        wanted["label_embeddings"][2:5, 2:5] = 0.5
    terms = slow_terms(own, wanted, labels)
    assert min(terms.values()) > 0
    assert loss_of(CD, own, wanted, labels).item() == pytest.approx(terms["cd"], rel=1e-9)
    assert loss_of(ID, own, wanted, labels).item() == pytest.approx(terms["id"], rel=1e-9)
    for method, name in ((cd.Method, "cd"), (instance_aware.Method, "id")):
        loss = loss_of(method(weight=3, label_weight=2), own, wanted, labels)
        assert loss.item() == pytest.approx(3 * terms[name] + 2 * terms["bce"], rel=1e-9)
        loss = loss_of(method(weight=3, label_weight=2, reduction="batch_mean"), own, wanted, labels)
        assert loss.item() == pytest.approx((3 * terms[name] + 2 * terms["bce"]) / SIZE, rel=1e-9)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_l2d__equals_slow_reference(scale: float) -> None:
    own, wanted, labels = values(1), values(10, WIDTH + 2), labels_with(0.5)
    own = {name: scale * value for name, value in own.items()}
    terms = slow_terms(own, wanted, labels)
    expected = terms["bce"] + 10 * terms["mld"] + 100 * terms["cd"] + 1000 * terms["id"]
    assert loss_of(l2d.Method(), own, wanted, labels).item() == pytest.approx(expected, rel=1e-9)
    expected = (terms["bce"] + 100 * terms["cd"] + 1000 * terms["id"]) / SIZE + 10 / 64 * terms["mld"]
    method = l2d.Method(reduction="batch_mean")
    assert loss_of(method, own, wanted, labels).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", ["mld_weight", "cd_weight", "id_weight"])
def test_l2d__is_the_sum_of_its_parts(name: str) -> None:
    own, wanted, labels = values(1), values(10), labels_with(0.5)
    weights = {"mld_weight": 0.0, "cd_weight": 0.0, "id_weight": 0.0} | {name: 3.0}
    alone = {"mld_weight": mld.Method, "cd_weight": cd.Method, "id_weight": instance_aware.Method}[name]
    expected = loss_of(alone(weight=3, label_weight=2), own, wanted, labels).item()
    method = l2d.Method(label_weight=2, **weights)
    assert loss_of(method, own, wanted, labels).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ({}, Required(logits=True, label_embeddings=True)),
        ({"mld_weight": 0}, Required(label_embeddings=True)),
        ({"cd_weight": 0}, Required(logits=True, label_embeddings=True)),
        ({"cd_weight": 0, "id_weight": 0}, Required(logits=True)),
        ({"mld_weight": 0, "cd_weight": 0, "id_weight": 0}, Required()),
    ],
)
def test_l2d__needs_only_what_has_a_weight(weights: dict[str, Any], expected: Required) -> None:
    method = l2d.Method.model_validate(weights)
    assert method.required(None) == expected
    wanted = {name: value for name, value in values(10).items() if name in expected.names()}
    assert loss_of(method, values(1), wanted, labels_with(0.5)).isfinite()


@pytest.mark.parametrize(
    "method",
    [
        *(make(label_weight=1.5, weight=3) for make in (mse.Method, ps.Method, mld.Method, cd.Method)),
        instance_aware.Method(label_weight=1.5, weight=3),
        l2d.Method(label_weight=1.5),
    ],
    ids=lambda method: method.name,
)
def test_batch_mean__is_paper_by_64_in_batches_of_64(method: Distiller) -> None:
    own, wanted, labels = values(1, size=64), values(10, size=64), labels_with(0.4, size=64)
    paper = loss_of(method, own, wanted, labels).item()
    by_sample = method.model_copy(update={"reduction": "batch_mean"})
    assert loss_of(by_sample, own, wanted, labels).item() == pytest.approx(paper / 64, rel=1e-12)


@pytest.mark.parametrize("times", [2, 5])
@pytest.mark.parametrize(
    "make",
    [
        l2d.Method(mld_weight=0, cd_weight=0, id_weight=0),
        l2d.Method(mld_weight=10, cd_weight=0, id_weight=0),
        l2d.Method(mld_weight=0, cd_weight=0, id_weight=1000),
        mse.Method(),
        ps.Method(),
    ],
)
def test_batch_mean__does_not_see_the_batch_size(make: Distiller, times: int) -> None:
    method = make.model_copy(update={"reduction": "batch_mean"})
    own, wanted, labels = values(1), values(10), labels_with(0.5)
    more, more_wanted = ({name: torch.cat([value] * times) for name, value in each.items()} for each in (own, wanted))
    loss = loss_of(method, more, more_wanted, torch.cat([labels] * times))
    assert loss.item() == pytest.approx(loss_of(method, own, wanted, labels).item(), rel=1e-12)


@pytest.mark.parametrize(("present", "least", "most"), [(0.5, 1.1, 1.4), (0.1, 2.5, 4.5)])
def test_batch_mean__of_cd_grows_with_the_batch_where_classes_are_rare(
    present: float, least: float, most: float
) -> None:
    """Sets of fewer than three add nothing, so the rarer a class, the less of it a small batch sees."""
    method = cd.Method(weight=1, label_weight=0, reduction="batch_mean")

    def mean(size: int) -> float:
        seeds = range(512 // size)
        losses = [
            loss_of(method, values(seed, size=size), values(seed + 999, size=size), labels_with(present, seed, size))
            for seed in seeds
        ]
        return torch.stack(losses).mean().item()

    assert least < mean(64) / mean(16) < most


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("coinciding", [None, "student", "teacher"])
def test_cd_id__of_pairs_are_exactly_0(dtype: torch.dtype, coinciding: str | None) -> None:
    """Samples 0 and 1 share class 0, sample 2 has two labels; nothing else is in a set with more than one."""
    labels = torch.zeros(3, CLASSES)
    labels[[0, 1, 2, 2], [0, 0, 3, 4]] = 1
    own, wanted = ({k: v.to(dtype) for k, v in values(seed, size=3).items()} for seed in (1, 10))
    if coinciding is not None:
        (own if coinciding == "student" else wanted)["label_embeddings"][:] = 1
    for method in ALONE:
        embeddings = own["label_embeddings"].clone().requires_grad_()
        loss = loss_of(method, own | {"label_embeddings": embeddings}, wanted, labels)
        torch.autograd.backward(loss + 0 * embeddings.sum())
        assert loss.item() == 0
        assert embeddings.grad is not None
        assert not embeddings.grad.any()


@pytest.mark.parametrize("method", ALONE)
@pytest.mark.parametrize("present", [0.0, 0.3, 1.0])
def test_cd_id__are_exactly_0_where_the_student_equals_the_teacher(method: Distiller, present: float) -> None:
    own, labels = {name: value.float() for name, value in values(1).items()}, labels_with(present)
    embeddings = own["label_embeddings"].clone().requires_grad_()
    loss = loss_of(method, own | {"label_embeddings": embeddings}, own, labels)
    torch.autograd.backward(loss + 0 * embeddings.sum())
    assert loss.item() == 0
    assert embeddings.grad is not None
    assert not embeddings.grad.any()


@pytest.mark.parametrize("method", ALONE)
def test_cd_id__do_not_read_labels_that_are_not_there(method: Distiller) -> None:
    own, wanted, labels = values(1), values(10), labels_with(0.5)
    expected = loss_of(method, own, wanted, labels).item()
    for each in (own, wanted):
        each["label_embeddings"] = each["label_embeddings"] * labels.unsqueeze(2)
    assert loss_of(method, own, wanted, labels).item() == expected
    embeddings = own["label_embeddings"].requires_grad_()
    torch.autograd.backward(loss_of(method, own, wanted, labels))
    assert embeddings.grad is not None
    assert not embeddings.grad[labels == 0].any()


@pytest.mark.parametrize("method", ALONE)
@settings(max_examples=40, deadline=None)
@given(seeds, st.floats(0.01, 100), st.floats(-10, 10), st.sampled_from([torch.float64, torch.float32]))
def test_cd_id__do_not_see_rotation_translation_scale_and_order(
    method: Distiller, seed: int, scale: float, shift: float, dtype: torch.dtype
) -> None:
    own, wanted, labels = values(seed), values(seed + 100), labels_with(0.5, seed)
    loss = loss_of(method, own, wanted, labels)
    rotation = torch.linalg.qr(normal(seed, WIDTH, WIDTH))[0]
    samples, classes = (
        torch.randperm(count, generator=torch.Generator().manual_seed(seed)) for count in (SIZE, CLASSES)
    )
    moved = own | {"label_embeddings": scale * own["label_embeddings"] @ rotation + shift * scale}
    shuffled, shuffled_wanted = (
        {
            "logits": each["logits"][samples].to(dtype),
            "label_embeddings": each["label_embeddings"][samples][:, classes].to(dtype),
        }
        for each in (moved, wanted)
    )
    tolerance = 1e-9 if dtype == torch.float64 else 1e-4
    found = loss_of(method, shuffled, shuffled_wanted, labels[samples][:, classes])
    assert found.item() == pytest.approx(loss.item(), rel=tolerance, abs=tolerance)


@pytest.mark.parametrize("method", ALONE)
@pytest.mark.parametrize("coinciding", [2, 3, SIZE])
def test_cd_id__give_coinciding_embeddings_gentle_gradients(method: Distiller, coinciding: int) -> None:
    own, wanted, labels = values(1), values(10), torch.ones(SIZE, CLASSES)
    embeddings = own["label_embeddings"]
    embeddings[:coinciding, :coinciding] = 0.5
    embeddings.requires_grad_()
    torch.autograd.backward(loss_of(method, own, wanted, labels))
    assert embeddings.grad is not None
    assert embeddings.grad.abs().max() < 100


@pytest.mark.parametrize("method", ALONE)
def test_cd_id__have_the_gradients_of_finite_differences(method: Distiller) -> None:
    own, wanted, labels = values(1, 3, 4), values(10, 3, 4), labels_with(0.8, size=4)

    def loss(embeddings: Tensor) -> Tensor:
        return loss_of(method, own | {"label_embeddings": embeddings}, wanted, labels)

    assert torch.autograd.gradcheck(loss, (own["label_embeddings"].requires_grad_(),))
