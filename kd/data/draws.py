"""Random numbers of samples: pure functions of (dataset, seed, view, sample id), in bounded memory."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np

DRAWS = 16  # numbers per sample and view; all are used, so a new operation needs a stream of its own
BLOCK = 1024  # ids that share one Philox stream
HELD_BLOCKS = 1024  # 64 MiB: of a million samples, each block is drawn once in an epoch


def draw(dataset: str, seed: int, view: int, ids: np.ndarray) -> np.ndarray:
    """Uniform numbers of some samples of a dataset in one view.

    Ids are cut into blocks. Each block has a Philox stream of its own (Salmon et al., "Parallel random
    numbers: as easy as 1, 2, 3", SC 2011), so that no number depends on how many samples there are.

    Args:
        dataset: its name.
        seed: of the run.
        view: number of the view, from 0.
        ids: (B,) sample ids.

    Returns:
        (B, DRAWS) float32 uniform in [0, 1), multiples of 2^-24.
    """
    drawn = np.empty((len(ids), DRAWS), dtype=np.float32)
    blocks, rows = np.divmod(ids, BLOCK)
    for block in np.unique(blocks):
        members = blocks == block
        drawn[members] = _draw_block(dataset, seed, view, int(block))[rows[members]]
    return drawn


@lru_cache(maxsize=HELD_BLOCKS)
def _draw_block(dataset: str, seed: int, view: int, block: int) -> np.ndarray:
    """(BLOCK, DRAWS) float32."""
    name = int.from_bytes(hashlib.sha256(dataset.encode()).digest()[:8], "big")
    stream = np.random.Philox(np.random.SeedSequence([name, seed, view, block]))
    return np.random.Generator(stream).random((BLOCK, DRAWS), dtype=np.float32)
