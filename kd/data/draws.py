"""Random numbers of samples: pure functions of (stream, seed, dataset, view, sample id), in bounded memory."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from kd.common import streams

DRAWS = 16  # numbers per sample and view; all are used, so a new operation needs a stream of its own
BLOCK = 1024  # ids that share one Philox stream
HELD_BLOCKS = 1024  # 64 MiB: of a million samples, each block is drawn once in an epoch


def draw(stream: streams.Audience, seed: int, dataset: str, view: int, ids: np.ndarray) -> np.ndarray:
    """Uniform numbers of some samples of a dataset in one view.

    Ids are cut into blocks. Each block has a stream of its own, so that no number depends on how many samples there
    are.

    Args:
        stream: who sees the views; see `kd.common.streams.Audience`.
        seed: of the run.
        dataset: its name.
        view: number of the view, from 0.
        ids: (B,) sample ids.

    Returns:
        (B, DRAWS) float32 uniform in [0, 1), multiples of 2^-24.
    """
    drawn = np.empty((len(ids), DRAWS), dtype=np.float32)
    blocks, rows = np.divmod(ids, BLOCK)
    for block in np.unique(blocks):
        members = blocks == block
        drawn[members] = _draw_block(stream, seed, dataset, view, int(block))[rows[members]]
    return drawn


@lru_cache(maxsize=HELD_BLOCKS)
def _draw_block(stream: streams.Audience, seed: int, dataset: str, view: int, block: int) -> np.ndarray:
    """(BLOCK, DRAWS) float32."""
    return streams.generator(stream, seed, dataset, view, block).random((BLOCK, DRAWS), dtype=np.float32)
