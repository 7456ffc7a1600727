"""Policies replay exactly, whatever else draws random numbers."""

from __future__ import annotations

import hashlib
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import v2

from kd.data.draws import draw
from kd.data.options import Augmentation, PolicyName
from kd.data.views import POLICY_COLUMN, Policy, Views
from tests.conftest import ROOT

IDS = np.arange(24) * 700  # of several blocks
IMAGES = torch.randint(0, 256, (24, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
NAMES: tuple[PolicyName, ...] = get_args(PolicyName)
every_policy = pytest.mark.parametrize("name", NAMES)


def combined(name: PolicyName) -> Augmentation:
    return Augmentation(policy=name, crop=(0.5, 1), flip=0.5, brightness=0.3, contrast=0.3, saturation=0.3)


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(NAMES),
    st.booleans(),
    st.permutations(range(24)),
    st.integers(1, 24),
    st.integers(0, 2**31),
    st.integers(0, 1000),
)
def test_views__with_a_policy_do_not_depend_on_order_or_batch_size(
    name: PolicyName, mixed: bool, order: list[int], size: int, seed: int, view: int
) -> None:
    options = combined(name) if mixed else Augmentation(policy=name)
    whole = Views("shared", "toy", seed, options)(IMAGES, IDS, view)
    views = Views("shared", "toy", seed, options)
    for start in range(0, 24, size):
        rows = np.array(order[start : start + size])
        assert torch.equal(views(IMAGES[rows], IDS[rows], view), whole[rows])


@every_policy
def test_policy__changes_images_and_leaves_its_input_alone(name: PolicyName) -> None:
    before = IMAGES.clone()
    policy = Policy(Augmentation(policy=name))
    seen = policy(IMAGES, np.linspace(0, 0.99, 24, dtype=np.float32))
    assert seen.shape == IMAGES.shape
    assert seen.dtype == torch.uint8
    assert (seen != IMAGES).flatten(1).any(dim=1).sum() > 6
    assert torch.equal(IMAGES, before)


@every_policy
def test_policy__is_that_of_torchvision(name: PolicyName) -> None:
    """The same pixels as torchvision gives when its global generator is seeded."""
    transforms = {
        "autoaugment_imagenet": v2.AutoAugment(v2.AutoAugmentPolicy.IMAGENET),
        "autoaugment_cifar10": v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10),
        "autoaugment_svhn": v2.AutoAugment(v2.AutoAugmentPolicy.SVHN),
        "randaugment": v2.RandAugment(3, 20),
        "trivialaugment": v2.TrivialAugmentWide(),
    }
    draws = np.arange(24, dtype=np.float32) / 32
    seen = Policy(Augmentation(policy=name, operations=3, magnitude=20))(IMAGES, draws)
    with torch.random.fork_rng(devices=[]):
        for row in range(24):
            torch.default_generator.manual_seed(row * 2**19)
            expected = transforms[name](IMAGES[row].permute(2, 0, 1).contiguous())
            assert torch.equal(seen[row].permute(2, 0, 1), expected)


@every_policy
def test_policy__leaves_the_global_generator_alone(name: PolicyName) -> None:
    before = torch.default_generator.get_state()
    Views("shared", "toy", 0, combined(name))(IMAGES, IDS, 0)
    assert torch.equal(torch.default_generator.get_state(), before)


def test_policy__threads_do_not_disturb_each_other() -> None:
    """A view that is made ahead in a thread and the dropout of the training thread."""
    views = Views("shared", "toy", 0, combined("randaugment"))
    expected = [views(IMAGES, IDS, view) for view in range(8)]
    torch.manual_seed(0)
    alone = torch.cat([torch.rand(10) for _ in range(200)])
    torch.manual_seed(0)
    with ThreadPoolExecutor(3) as threads:
        seen = [threads.submit(views, IMAGES, IDS, view) for view in range(8)]
        beside = torch.cat([torch.rand(10) for _ in range(200)])
        assert all(torch.equal(one.result(), two) for one, two in zip(seen, expected, strict=True))
    assert torch.equal(alone, beside)


def test_policy__differs_by_view_and_sample() -> None:
    same = IMAGES[:1].expand(24, -1, -1, -1)
    views = Views("shared", "toy", 0, Augmentation(policy="trivialaugment"))
    first, second = views(same, IDS, 0), views(same, IDS, 1)
    assert not torch.equal(first, second)
    assert sum(torch.equal(one, two) for one, two in combinations(first, 2)) < 24


@every_policy
def test_policy__grey_becomes_rgb_first(name: PolicyName) -> None:
    grey = IMAGES[..., :1]
    views = Views("shared", "toy", 0, combined(name))
    assert torch.equal(views(grey, IDS, 0), views(grey.expand(-1, -1, -1, 3), IDS, 0))


def test_policy__comes_before_geometry_and_colour() -> None:
    options = Augmentation(crop=(0.5, 1), flip=0.5, brightness=0.3)
    both = options.model_copy(update={"policy": "randaugment"})
    images = Policy(both)(IMAGES, draw("shared", 0, "toy", 5, IDS)[:, POLICY_COLUMN])
    assert torch.equal(
        Views("shared", "toy", 0, both)(IMAGES, IDS, 5), Views("shared", "toy", 0, options)(images, IDS, 5)
    )


def test_policy__uncovers_black() -> None:
    """Full magnitude turns, shears or shifts at least one of these white images, whatever `fill` says."""
    white = torch.full((24, 16, 16, 3), 255, dtype=torch.uint8)
    options = Augmentation(policy="randaugment", operations=1, magnitude=30, fill="reflect")
    seen = Policy(options)(white, np.linspace(0, 0.99, 24, dtype=np.float32))
    corners = seen[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert {0, 255} <= set(corners.flatten().tolist())


ANEW = """
import hashlib, numpy, pickle, sys, torch
views, images, ids = pickle.loads(sys.stdin.buffer.read())
torch.manual_seed(99)
print(hashlib.sha256(views(images, ids, 3).numpy().tobytes()).hexdigest())
"""


def test_policy__a_process_started_anew_sees_the_same() -> None:
    images = IMAGES.repeat_interleave(14, dim=1).repeat_interleave(14, dim=2)  # 224 px
    views = Views("shared", "toy", 1, combined("autoaugment_imagenet"))
    expected = hashlib.sha256(views(images, IDS, 3).numpy().tobytes()).hexdigest()
    content = pickle.dumps((views, images, IDS))
    seen = subprocess.run([sys.executable, "-c", ANEW], cwd=ROOT, input=content, capture_output=True, check=True)
    assert seen.stdout.decode().strip() == expected


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and there is none")
def test_policy__images_on_the_gpu_become_what_they_become_on_the_cpu() -> None:
    before = torch.cuda.get_rng_state()
    policy = Policy(Augmentation(policy="autoaugment_imagenet"))
    draws = np.linspace(0, 0.99, 24, dtype=np.float32)
    seen = policy(IMAGES.cuda(), draws)
    assert seen.is_cuda
    assert torch.equal(seen.cpu(), policy(IMAGES, draws))
    assert torch.equal(torch.cuda.get_rng_state(), before)
