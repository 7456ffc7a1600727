"""Every method: float32, and finite with finite gradients, for all that is finite and fits in float16."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from kd.distillers.base import Batch, Distiller
from kd.distillers.registry import METHODS, load_distiller, parse_distiller
from tests.distillers.building import CLASSES, STUDENT, TEACHER, batch_of, draw, labels_of, needed

NAMES = METHODS.names()
SIZE = 6
Values = dict[str, Tensor]


def values(method: Distiller, dtype: torch.dtype = torch.float32) -> tuple[Values, Values]:
    own, wanted = (draw(needed(method, shapes), SIZE, seed) for shapes, seed in ((STUDENT, 1), (TEACHER, 20)))
    return {k: v.to(dtype) for k, v in own.items()}, {k: v.to(dtype) for k, v in wanted.items()}


def parts_of(method: Distiller) -> nn.Module | None:
    torch.manual_seed(0)
    return method.auxiliary(needed(method, STUDENT), needed(method, TEACHER), 2 * SIZE)


def check(method: Distiller, own: Values, wanted: Values, batch: Batch, limit: float = 1e30) -> Tensor:
    """Loss, after a look at it and all gradients."""
    own = {name: value.clone().requires_grad_() for name, value in own.items()}
    auxiliary = parts_of(method)
    loss = method.loss(own, wanted, batch, auxiliary)
    assert loss.shape == ()
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
    torch.autograd.backward(loss)
    gradients = [each.grad for each in (*own.values(), *(auxiliary.parameters() if auxiliary is not None else ()))]
    for gradient in gradients:
        assert gradient is None or (torch.isfinite(gradient).all() and gradient.abs().max() < limit)
    return loss.detach()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_loss__of_random_values(name: str, dtype: torch.dtype) -> None:
    method = parse_distiller({"name": name})
    batch = batch_of(labels_of(method, SIZE, 0), epoch=100)
    assert check(method, *values(method, dtype), batch) > 0
    own, wanted = ({key: value.requires_grad_() for key, value in each.items()} for each in values(method))
    torch.autograd.backward(method.loss(own, wanted, batch, parts_of(method)))
    for compared in own.values():
        assert compared.grad is not None
        assert compared.grad.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_loss__is_computed_in_float32(name: str, dtype: torch.dtype) -> None:
    method = parse_distiller({"name": name})
    half, batch = values(method, dtype), batch_of(labels_of(method, SIZE, 0))
    full = tuple({key: value.float() for key, value in each.items()} for each in half)
    assert check(method, *half, batch).item() == check(method, full[0], full[1], batch).item()


@pytest.mark.parametrize("name", NAMES)
def test_loss__is_computed_in_float32_under_autocast(name: str) -> None:
    method = parse_distiller({"name": name})
    (own, wanted), batch = values(method), batch_of(labels_of(method, SIZE, 0))
    with torch.autocast("cpu", torch.bfloat16):
        loss = check(method, own, wanted, batch)
    trained = parts_of(method) is not None  # those may run in half precision, as the student does
    assert loss.item() == pytest.approx(check(method, own, wanted, batch).item(), rel=0.05 if trained else 1e-6)


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-7, 100.0, 6e4])
@pytest.mark.parametrize("spread", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_loss__of_small_and_large_values(name: str, spread: bool, scale: float) -> None:
    method = parse_distiller({"name": name})
    own, wanted = (
        {key: (value / value.abs().max() if spread else value.sign()) * scale for key, value in each.items()}
        for each in values(method)
    )
    check(method, own, wanted, batch_of(labels_of(method, SIZE, 0)))


@pytest.mark.parametrize("scale", [1e-6, 1e-8, 1e-12, 1e-20])
@pytest.mark.parametrize(("name", "limit"), [("at", 1e5), ("sp", 1e5), ("pkt", 1e9), ("rkd", 1e8)])
def test_loss__gradients_are_bounded_where_maps_die(name: str, limit: float, scale: float) -> None:
    """If lengths could be as small as they like, gradients would grow as one over the scale of what is compared."""
    method = parse_distiller({"name": name})
    own, wanted = values(method)
    own |= {key: value * scale for key, value in own.items() if key != "logits"}
    check(method, own, wanted, batch_of(labels_of(method, SIZE, 0)), limit)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", [0.0, 100.0, 6e4])
@pytest.mark.parametrize("name", NAMES)
def test_loss__of_large_values_in_half_precision(name: str, scale: float, dtype: torch.dtype) -> None:
    method = parse_distiller({"name": name})
    own, wanted = ({key: value.sign() * scale for key, value in each.items()} for each in values(method, dtype))
    batch = batch_of(labels_of(method, SIZE, 0))
    check(method, own, wanted, batch)


@pytest.mark.parametrize("name", NAMES)
def test_loss__of_a_single_sample(name: str) -> None:
    method = parse_distiller({"name": name})
    own, wanted = ({key: value[:1] for key, value in each.items()} for each in values(method))
    check(method, own, wanted, batch_of(labels_of(method, 1, 0)))


@pytest.mark.parametrize("same", ["student", "teacher", "both"])
@pytest.mark.parametrize("name", NAMES)
def test_loss__where_samples_and_labels_coincide(name: str, same: str) -> None:
    method = parse_distiller({"name": name})
    own, wanted = values(method)
    for side, each in (("student", own), ("teacher", wanted)):
        if same in {side, "both"}:
            each.update({key: value[:1].expand_as(value).clone() for key, value in each.items()})
            if "label_embeddings" in each:
                each["label_embeddings"][:] = each["label_embeddings"][:, :1].clone()
    check(method, own, wanted, batch_of(labels_of(method, SIZE, 0)), limit=1e6)


@pytest.mark.parametrize("name", [name for name in NAMES if "multi_label" in load_distiller(name).TASKS])
@pytest.mark.parametrize("positives", range(CLASSES + 1))
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32])
def test_loss__of_any_number_of_positive_labels(name: str, positives: int, dtype: torch.dtype) -> None:
    method = parse_distiller({"name": name})
    labels = torch.zeros(SIZE, CLASSES, dtype=dtype)
    labels[:, :positives] = 1
    check(method, *values(method), batch_of(labels))


@pytest.mark.parametrize("name", [name for name in NAMES if "single_label" in load_distiller(name).TASKS])
def test_loss__of_a_single_class(name: str) -> None:
    method = parse_distiller({"name": name})
    check(method, *values(method), batch_of(torch.full((SIZE,), 2)))
