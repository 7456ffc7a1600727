"""Random streams: each purpose draws from streams of its own, and any seed will do."""

from __future__ import annotations

import hashlib
import json
from typing import Literal

import numpy as np

Audience = Literal["train", "shared"]
"""`train`: views for what a teacher's or the joint baseline's own training sees. `shared`: views that are cached, that
joint teachers are trained on, and that students see. So targets are never made of the very views that their teacher
was fitted to."""
Purpose = Literal[Audience, "frames", "order", "mixing", "weights", "step", "loss"]
"""`frames`: of clips, in a view of either audience. `order`: of the samples of an epoch. `mixing`: of mixup and cutmix.
`weights`: initial ones. `step`: dropout and the like in a step of the optimiser. `loss`: of losses that draw, such as
the negatives of CRD."""


def generator(purpose: Purpose, *key: int | str) -> np.random.Generator:
    """Numbers of numpy for a purpose: a pure function of it and of the key.

    Philox is used (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).

    Args:
        purpose: what is drawn.
        key: what tells its streams apart, such as seed and epoch; integers of any size, and names.
    """
    entropy = np.random.SeedSequence(int.from_bytes(_digest(purpose, key), "big"))
    return np.random.Generator(np.random.Philox(entropy))


def torch_seed(purpose: Purpose, *key: int | str) -> int:
    """A seed for torch, of 64 bits; arguments are those of `generator`."""
    return int.from_bytes(_digest(purpose, key)[:8], "big")


def _digest(purpose: Purpose, key: tuple[int | str, ...]) -> bytes:
    """A hash, since sums and products of seed, epoch and step overflow, or meet for different arguments."""
    return hashlib.sha256(json.dumps([purpose, *key]).encode()).digest()
