"""In which order samples are met: a pure function of (seed, epoch)."""

from __future__ import annotations

from itertools import pairwise

import numpy as np


def batch_count(count: int, batch_size: int) -> int:
    """Batches in an epoch: of about `batch_size`, but never of one sample, which batch norm cannot take."""
    return max(1, min(-(-count // batch_size), count // 2))


def epoch_batches(count: int, batch_size: int, *, seed: int, epoch: int) -> list[np.ndarray]:
    """Shuffle 0..count-1 and cut it into `batch_count` batches of nearly equal size.

    Returns:
        Index arrays that together hold every index once.
    """
    stream = np.random.Philox(np.random.SeedSequence([seed, epoch, count]))
    order = np.random.Generator(stream).permutation(count)
    return np.array_split(order, batch_count(count, batch_size))


def union_batches(sizes: list[int], batch_size: int, *, seed: int, epoch: int) -> list[list[np.ndarray]]:
    """The same for samples of several datasets shuffled together.

    Args:
        sizes: samples of each dataset.
        batch_size: largest batch, over all datasets.
        seed: of the run.
        epoch: from 0.

    Returns:
        For each batch the rows of each dataset, some perhaps empty.
    """
    offsets = np.cumsum([0, *sizes])
    batches = epoch_batches(int(offsets[-1]), batch_size, seed=seed, epoch=epoch)
    return [[batch[(batch >= low) & (batch < high)] - low for low, high in pairwise(offsets)] for batch in batches]
