"""Mixing is a pure function of seed, epoch and step, and its loss is that of mixed targets."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.data import mixup as timm_mixup
from timm.loss import SoftTargetCrossEntropy
from torch import Tensor
from torch.nn import functional

from kd.distillers import mlfd
from kd.training.mixing import Mix, draw_mix, mix_images, mixed_loss

IMAGES = torch.rand(6, 3, 12, 20, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 3, 1, 1, 2, 0])
Alpha = st.floats(0.05, 5)
Edge = st.integers(1, 64)


@given(Alpha, Alpha, Edge, Edge, st.integers(0, 2**31), st.integers(0, 1000), st.integers(0, 10**6))
def test_draw_mix__is_a_pure_function(
    mixup: float, cutmix: float, height: int, width: int, seed: int, epoch: int, step: int
) -> None:
    mix = draw_mix(mixup, cutmix, (height, width), seed, epoch, step)
    assert mix == draw_mix(mixup, cutmix, (height, width), seed, epoch, step)


def test_draw_mix__differs_by_seed_epoch_and_step() -> None:
    assert len({draw_mix(1, 0, (8, 8), *each) for each in np.ndindex(3, 3, 3)}) == 27


def test_draw_mix__takes_what_is_on() -> None:
    blends = [draw_mix(0.5, 0, (8, 8), 0, 0, step) for step in range(20)]
    pastes = [draw_mix(0, 0.5, (8, 8), 0, 0, step) for step in range(20)]
    assert all(mix.box is None for mix in blends)
    assert all(mix.box is not None for mix in pastes)
    both = [draw_mix(0.5, 0.5, (8, 8), 0, 0, step) for step in range(1000)]
    assert sum(mix.box is not None for mix in both) == pytest.approx(500, abs=60)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_draw_mix__coefficient_is_beta_distributed(alpha: float) -> None:
    mixes = [draw_mix(alpha, 0, (8, 8), 0, 0, step) for step in range(4000)]
    coefficients = np.array([mix.coefficient for mix in mixes])
    assert coefficients.mean() == pytest.approx(0.5, abs=0.02)
    assert coefficients.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)


@settings(max_examples=300)
@given(Alpha, Edge, Edge, st.integers(0, 2**31))
def test_draw_mix__coefficient_of_cutmix_is_the_visible_part(alpha: float, height: int, width: int, seed: int) -> None:
    mix = draw_mix(0, alpha, (height, width), seed, 0, 0)
    assert mix.box is not None
    top, bottom, left, right = mix.box
    assert 0 <= top <= bottom <= height
    assert 0 <= left <= right <= width
    own, partner = torch.ones(1, 3, height, width), torch.zeros(1, 3, height, width)
    assert mix_images(own, partner, mix).mean().item() == pytest.approx(mix.coefficient, abs=1e-6)


def normal(seed: int, *shape: int, learns: bool = False) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).requires_grad_(learns)


SUPPORTS_MIXUP = [Mix(0.3), Mix(1 - 15 / 240, (2, 5, 15, 20))]


@pytest.mark.parametrize("mix", SUPPORTS_MIXUP)
def test_mixing__is_that_of_timm(mix: Mix, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = timm_mixup.Mixup(mixup_alpha=1.0, label_smoothing=0.1, num_classes=4)
    monkeypatch.setattr(reference, "_params_per_batch", lambda: (mix.coefficient, mix.box is not None))
    monkeypatch.setattr(timm_mixup, "rand_bbox", lambda *_, **__: mix.box)
    images, targets = reference(IMAGES.clone(), LABELS)
    torch.testing.assert_close(mix_images(IMAGES, IMAGES.flip(0), mix), images)
    logits = normal(0, 6, 4)
    own, partner = (functional.cross_entropy(logits, each, label_smoothing=0.1) for each in (LABELS, LABELS.flip(0)))
    torch.testing.assert_close(mixed_loss(own, partner, mix), SoftTargetCrossEntropy()(logits, targets))


def test_mix_images__leaves_its_inputs_alone() -> None:
    before = IMAGES.clone()
    for mix in SUPPORTS_MIXUP:
        mix_images(IMAGES, IMAGES.flip(0), mix)
    assert torch.equal(IMAGES, before)


def test_mixed_loss__gradient_of_squared_errors_is_that_of_mixed_targets() -> None:
    output, wanted = normal(0, 6, 5, learns=True), normal(1, 6, 5)
    own, partner = (functional.mse_loss(output, each) for each in (wanted, wanted.flip(0)))
    (gradient,) = torch.autograd.grad(mixed_loss(own, partner, Mix(0.3)), output)
    mixed = 0.3 * wanted + 0.7 * wanted.flip(0)
    (expected,) = torch.autograd.grad(functional.mse_loss(output, mixed), output)
    torch.testing.assert_close(gradient, expected)


def test_mixed_loss__gradient_of_mlfd_is_that_of_mixed_targets() -> None:
    """Mixed softened probabilities, labels, vectors and maps, all with the coefficient of the images."""
    shapes = {"logits": (6, 4), "L1": (6, 5), "L2": (6, 3, 2, 2)}
    wanted = {name: normal(0, *shape) for name, shape in shapes.items()}
    output = {name: normal(1, *shape, learns=True) for name, shape in shapes.items()}
    method, mix = mlfd.Method(feature_on_vector=True), Mix(0.3)
    row_shapes = {name: shape[1:] for name, shape in shapes.items()}
    parts = method.auxiliary(row_shapes, row_shapes, 6)

    def loss(values: dict[str, Tensor], labels: Tensor) -> Tensor:
        batch: Any = SimpleNamespace(labels=labels)
        return method.loss(output, values, batch, parts)

    flipped = {name: value.flip(0) for name, value in wanted.items()}
    total = mixed_loss(loss(wanted, LABELS), loss(flipped, LABELS.flip(0)), mix)

    def blend(values: Tensor) -> Tensor:
        return mix.coefficient * values + (1 - mix.coefficient) * values.flip(0)

    temperature = method.temperature
    soft = blend((wanted["logits"] / temperature).softmax(dim=1))
    hard = blend(functional.one_hot(LABELS, 4).float())
    squares = [functional.mse_loss(output[name], blend(wanted[name])) for name in ("L2", "L1")]
    expected = (
        method.soft_weight * temperature**2 * functional.cross_entropy(output["logits"] / temperature, soft)
        + method.feature_weight * sum(squares, torch.zeros(())) / 2
        + method.label_weight * functional.cross_entropy(output["logits"], hard)
    )
    leaves = list(output.values())
    for own, other in zip(torch.autograd.grad(total, leaves), torch.autograd.grad(expected, leaves), strict=True):
        torch.testing.assert_close(own, other)
