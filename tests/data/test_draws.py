"""Random numbers of samples."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kd.common.streams import Audience
from kd.data import draws
from kd.data.draws import BLOCK, DRAWS, draw

Ids = st.lists(st.integers(0, 2**40), min_size=1, max_size=40)


@settings(max_examples=30, deadline=None)
@given(Ids, st.integers(0, 2**64 - 1), st.integers(0, 10**6))
def test_draw__batch_equals_its_samples(ids: list[int], seed: int, view: int) -> None:
    batch = draw("shared", seed, "toy", view, np.array(ids))
    assert batch.shape == (len(ids), DRAWS)
    assert batch.dtype == np.float32
    for row, each in enumerate(ids):
        assert np.array_equal(draw("shared", seed, "toy", view, np.array([each]))[0], batch[row])


def test_draw__differs_by_stream_seed_dataset_view_block_and_row() -> None:
    keys: list[tuple[Audience, int, str, int, int]] = [
        ("shared", 0, "toy", 0, 0),
        ("train", 0, "toy", 0, 0),
        ("shared", 1, "toy", 0, 0),
        ("shared", 0, "other", 0, 0),
        ("shared", 0, "toy", 1, 0),
        ("shared", 0, "toy", 0, BLOCK),
    ]
    streams = [draw(*key[:4], np.array([key[4], key[4] + 1])) for key in keys]
    for one, two in combinations(np.concatenate(streams), 2):
        assert not np.isclose(one, two).any()


def test_draw__is_uniform() -> None:
    drawn = draw("shared", 0, "toy", 0, np.arange(20 * BLOCK))
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert np.abs(drawn.mean(axis=0) - 0.5).max() < 0.01
    assert np.abs(drawn.std(axis=0) - 12**-0.5).max() < 0.01


def test_draw__never_changes() -> None:
    """Stored embeddings belong to these very numbers."""
    first = draw("shared", 3, "toy", 1, np.array([5, 5000]))[:, 0]
    assert first.tolist() == [0.2194393277168274, 0.18181514739990234]


def test_draw__memory_is_bounded() -> None:
    draws._draw_block.cache_clear()
    draw("shared", 0, "toy", 0, np.arange(3) * BLOCK)
    held = draws._draw_block.cache_info()
    assert held.currsize == 3
    assert held.maxsize == draws.HELD_BLOCKS
    assert draws._draw_block("shared", 0, "toy", 0, 0).nbytes * draws.HELD_BLOCKS == 64 * 2**20
