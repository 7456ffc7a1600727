"""An epoch meets every sample once, in an order that depends on nothing but what it should."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from kd.data import feed
from kd.data.feed import Memory, RawColumn, Table, batch_count, ordered_batches, shuffled_batches, shuffled_windows
from kd.data.storage import chunk_rows, create_rows
from kd.jobs.errors import UserError


class Rows:
    """Tables of one dataset: numbers that say which row and view they are."""

    def __init__(self, folder: Path, rows: int, views: int, chunks: tuple[int, int], budget: int) -> None:
        memory = Memory(lambda tensor: tensor, budget)
        group = zarr.create_group(folder / "x.zarr")
        numbers = np.arange(rows, dtype=np.int64)
        first = create_rows(group, "a", rows, (), "int64", chunk=chunks[0])
        first.write(slice(0, rows), numbers)
        second = create_rows(group, "b", rows, (2,), "int64", views=views, chunk=chunks[1])
        for view in range(views):
            second.write(slice(0, rows), np.stack([numbers, np.full(rows, view)], axis=1), view)
        self.tables = [Table({"a": RawColumn(first)}, memory), Table({"b": RawColumn(second)}, memory)]


def epoch(datasets: list[Rows], number: int, batch_size: int = 8) -> list[list[Any]]:
    found = []
    for pieces in shuffled_batches(datasets, batch_size, seed=3, epoch=number):
        for piece in pieces:
            assert torch.equal(piece.values[0]["a"], torch.from_numpy(piece.rows))
            assert torch.equal(piece.values[1]["b"][:, 0], torch.from_numpy(piece.rows))
        found.append([(piece.rows.tolist(), piece.values[1]["b"][:, 1].tolist()) for piece in pieces])
    return found


@pytest.mark.parametrize("window", [1, 300, 10**9])
def test_shuffled_batches__every_sample_once_in_step_and_whatever_the_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    """Rows of both tables belong together, and streaming gives what residence gives."""
    monkeypatch.setattr(feed, "WINDOW_BYTES", window)
    results = []
    for budget in (0, 500, 10**9):
        folder = tmp_path / str(budget)
        datasets = [Rows(folder / "a", 61, 2, (4, 16), budget), Rows(folder / "b", 30, 2, (8, 30), budget)]
        epochs = [epoch(datasets, number) for number in range(3)]
        for number, batches in enumerate(epochs):
            for dataset, rows in enumerate((61, 30)):
                met = [row for batch in batches for row in batch[dataset][0]]
                assert sorted(met) == list(range(rows))
                assert {view for batch in batches for view in batch[dataset][1]} == {number % 2}
            sizes = [sum(len(piece[0]) for piece in batch) for batch in batches]
            assert len(sizes) == batch_count(91, 8)
            assert max(sizes) - min(sizes) <= 1
        assert epochs[0] != epochs[2]  # the same view in another order
        results.append(epochs)
    assert results[0] == results[1] == results[2]


def test_shuffled_batches__rows_of_a_small_dataset_are_mixed_as_a_whole(tmp_path: Path) -> None:
    batches = epoch([Rows(tmp_path, 60, 1, (4, 16), 0)], 0)
    first = [row for batch in batches[:4] for row in batch[0][0]]
    assert max(first) > 45
    assert min(first) < 15


def test_ordered_batches__rows_in_order_of_the_first_view(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "WINDOW_BYTES", 300)
    rows = Rows(tmp_path, 61, 2, (4, 16), 0)
    pieces = list(ordered_batches(rows, 7))
    assert np.concatenate([piece.rows for piece in pieces]).tolist() == list(range(61))
    assert torch.cat([piece.values[1]["b"] for piece in pieces])[:, 1].eq(0).all()


def test_shuffled_batches__a_damaged_chunk_stops_the_epoch(tmp_path: Path) -> None:
    rows = Rows(tmp_path, 61, 1, (4, 16), 0)
    (tmp_path / "x.zarr/a/c/7").unlink()
    with pytest.raises(UserError, match="chunk is missing"):
        list(shuffled_batches([rows], 8, seed=0, epoch=0))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 3000), st.sampled_from([1, 8, 512]), st.integers(1, 2_000_000)), min_size=1, max_size=3
    ),
    st.integers(0, 2**31),
)
def test_shuffled_windows__hold_every_row_once_within_the_memory_bound(
    weights: list[tuple[int, int, int]], seed: int
) -> None:
    windows = shuffled_windows(weights, np.random.default_rng(seed))
    for dataset, (rows, _, _) in enumerate(weights):
        assert sorted(np.concatenate([window.rows(dataset) for window in windows]).tolist()) == list(range(rows))
    for window in windows:
        assert sorted(window.order.tolist()) == list(range(len(window.order)))
        weight = sum(len(window.rows(number)) * size for number, (_, _, size) in enumerate(weights))
        one_block = max(block * size for _, block, size in weights)
        assert weight <= max(feed.WINDOW_BYTES, one_block)


@given(st.integers(2, 5000), st.integers(2, 300))
def test_batch_count__never_leaves_a_batch_of_one(count: int, batch_size: int) -> None:
    assert math.floor(count / batch_count(count, batch_size)) >= 2


@given(st.integers(1, 10**6), st.integers(1, 10**8))
def test_chunk_rows__powers_of_two_divide_one_another(rows: int, row_bytes: int) -> None:
    chunk = chunk_rows(rows, row_bytes)
    assert 1 <= chunk <= 512
    assert chunk == rows or chunk & (chunk - 1) == 0
    assert chunk == 1 or chunk * row_bytes <= 8 << 20
