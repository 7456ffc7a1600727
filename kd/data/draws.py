"""Random numbers of samples: pure functions of (stream, seed, dataset, view, sample id), in bounded memory."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from kd.common import streams

DRAWS = 16  # numbers per sample and view; all are used, so a new operation needs a stream of its own
BLOCK = 1024  # ids that share one Philox stream
HELD_BLOCKS = 1024  # 64 MiB: of a million samples, each block is drawn once in an epoch


def draw(
    stream: streams.Audience, seed: int, dataset: str, view: int, ids: np.ndarray, *, frames: int = 0
) -> np.ndarray:
    """Uniform numbers of some samples of a dataset in one view.

    Ids are cut into blocks. Each block has a stream of its own, so that no number depends on how many samples there
    are.

    Args:
        stream: who sees the views; see `kd.common.streams.Audience`.
        seed: of the run.
        dataset: its name.
        view: number of the view, from 0.
        ids: (B,) sample ids.
        frames: numbers that choose the frames of a clip, from a stream of their own; 0: those of all operations.

    Returns:
        (B, DRAWS) float32, or (B, frames), uniform in [0, 1), multiples of 2^-24.
    """
    drawn = np.empty((len(ids), frames or DRAWS), dtype=np.float32)
    blocks, rows = np.divmod(ids, BLOCK)
    for block in np.unique(blocks):
        members = blocks == block
        drawn[members] = _draw_block(stream, seed, dataset, view, int(block), frames)[rows[members]]
    return drawn


@lru_cache(maxsize=HELD_BLOCKS)
def _draw_block(
    stream: streams.Audience, seed: int, dataset: str, view: int, block: int, frames: int = 0
) -> np.ndarray:
    """(BLOCK, DRAWS) float32, or (BLOCK, frames)."""
    key = (seed, dataset, view, block)
    generator = streams.generator("frames", stream, *key) if frames else streams.generator(stream, *key)
    return generator.random((BLOCK, frames or DRAWS), dtype=np.float32)
