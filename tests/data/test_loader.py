"""An epoch meets every sample once, in an order that depends on nothing but what it should."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kd.common.errors import UserError
from kd.common.streams import generator
from kd.data import loader as feed
from kd.data import order
from kd.data.loader import (
    ColumnGroup,
    MemoryBudget,
    Partition,
    RawColumn,
    SubBatch,
    batch_count,
    ordered_batches,
    shuffled_batches,
)
from kd.data.order import WINDOW_BATCHES, shuffled_windows
from kd.data.storage import chunk_rows, create_rows


def stored(folder: Path, rows: int, views: int, chunks: tuple[int, int], budget: int) -> list[ColumnGroup]:
    """Two groups of one dataset: numbers that say which row and view they are."""
    memory = MemoryBudget(lambda tensor: tensor, budget)
    group = zarr.create_group(folder / "x.zarr")
    numbers = np.arange(rows, dtype=np.int64)
    first = create_rows(group, "a", rows, (), "int64", chunk=chunks[0])
    first.write(slice(0, rows), numbers)
    second = create_rows(group, "b", rows, (2,), "int64", views=views, chunk=chunks[1])
    for view in range(views):
        second.write(slice(0, rows), np.stack([numbers, np.full(rows, view)], axis=1), view)
    return [ColumnGroup({"a": RawColumn(first)}, memory), ColumnGroup({"b": RawColumn(second)}, memory)]


def epoch(datasets: list[list[ColumnGroup]], number: int, batch_size: int = 8) -> list[list[Any]]:
    found = []
    for sub_batches in shuffled_batches(datasets, batch_size, seed=3, epoch=number):
        for sub_batch in sub_batches:
            assert torch.equal(sub_batch.values[0]["a"], torch.from_numpy(sub_batch.rows))
            assert torch.equal(sub_batch.values[1]["b"][:, 0], torch.from_numpy(sub_batch.rows))
        found.append([(sub_batch.rows.tolist(), sub_batch.values[1]["b"][:, 1].tolist()) for sub_batch in sub_batches])
    return found


@pytest.mark.parametrize("window", [1, 300, 10**9])
def test_shuffled_batches__every_sample_once_in_step_and_whatever_the_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    """Rows of both groups belong together, and streaming gives what residence gives."""
    monkeypatch.setattr(order, "WINDOW_BYTES", window)
    monkeypatch.setattr(order, "WINDOW_BATCHES", 2)
    results = []
    for budget in (0, 500, 10**9):
        folder = tmp_path / str(budget)
        datasets = [stored(folder / "a", 61, 2, (4, 16), budget), stored(folder / "b", 30, 2, (8, 30), budget)]
        epochs = [epoch(datasets, number) for number in range(3)]
        for number, batches in enumerate(epochs):
            for dataset, rows in enumerate((61, 30)):
                met = [row for batch in batches for row in batch[dataset][0]]
                assert sorted(met) == list(range(rows))
                assert {view for batch in batches for view in batch[dataset][1]} == {number % 2}
            sizes = [sum(len(sub_batch[0]) for sub_batch in batch) for batch in batches]
            assert len(sizes) == batch_count(91, 8)
            assert max(sizes) - min(sizes) <= 1
        assert epochs[0] != epochs[2]  # the same view in another order
        results.append(epochs)
    assert results[0] == results[1] == results[2]


def test_shuffled_batches__rows_of_a_small_dataset_are_mixed_as_a_whole(tmp_path: Path) -> None:
    batches = epoch([stored(tmp_path, 60, 1, (4, 16), 0)], 0)
    first = [row for batch in batches[:4] for row in batch[0][0]]
    assert max(first) > 45
    assert min(first) < 15


def test_ordered_batches__rows_in_order_of_the_first_view(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "ORDERED_BYTES", 300)
    rows = stored(tmp_path, 61, 2, (4, 16), 0)
    sub_batches = list(ordered_batches(rows, 7))
    assert np.concatenate([sub_batch.rows for sub_batch in sub_batches]).tolist() == list(range(61))
    assert torch.cat([sub_batch.values[1]["b"] for sub_batch in sub_batches])[:, 1].eq(0).all()


def test_shuffled_batches__a_damaged_chunk_stops_the_epoch(tmp_path: Path) -> None:
    rows = stored(tmp_path, 61, 1, (4, 16), 0)
    (tmp_path / "x.zarr/a/c/7").unlink()
    with pytest.raises(UserError, match="chunk is missing"):
        list(shuffled_batches([rows], 8, seed=0, epoch=0))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 3000), st.sampled_from([1, 8, 512]), st.integers(1, 2_000_000)), min_size=1, max_size=3
    ),
    st.integers(2, 64),
    st.integers(0, 2**31),
)
def test_shuffled_windows__hold_every_row_once_and_16_batches_within_the_memory_bound(
    weights: list[tuple[int, int, int]], batch_size: int, seed: int
) -> None:
    windows = shuffled_windows(weights, batch_size, np.random.default_rng(seed))
    for dataset, (rows, _, _) in enumerate(weights):
        assert sorted(np.concatenate([window.rows(dataset) for window in windows]).tolist()) == list(range(rows))
    for window in windows:
        assert sorted(window.order.tolist()) == list(range(len(window.order)))
        weight = sum(len(window.rows(number)) * size for number, (_, _, size) in enumerate(weights))
        blocks = sum(min(block, rows) * size for rows, block, size in weights)
        rows = sum(rows for rows, _, _ in weights)
        whole = sum(rows * size for rows, _, size in weights)
        least = WINDOW_BATCHES * batch_size + sum(min(block, rows) for rows, block, _ in weights)
        assert weight <= max(order.WINDOW_BYTES, whole * 2 * least / rows) + blocks
        assert len(windows) == 1 or len(window.order) >= WINDOW_BATCHES * batch_size


def met_again(weights: list[tuple[int, int, int]], batch_size: int) -> float:
    """Part of the pairs within the batches of an epoch that are within a batch of the next one, too."""
    epochs = []
    for number in range(2):
        windows = shuffled_windows(weights, batch_size, generator("order", 0, number))
        rows = np.concatenate([window.rows(0)[window.order] for window in windows])
        place = np.empty(len(rows), np.int64)
        place[rows] = np.arange(len(rows)) // batch_size
        epochs.append(place)
    _, counts = np.unique(np.stack(epochs), axis=1, return_counts=True)
    return float((counts * (counts - 1)).sum() / (len(rows) * (batch_size - 1)))


@pytest.mark.parametrize(
    ("rows", "block", "row_bytes"),
    [(19_200, 8, 800_000), (19_200, 128, 50_000), (19_200, 512, 200_000), (9_600, 2, 4_000_000), (3_072, 32, 150_528)],
)
def test_shuffled_windows__samples_of_a_batch_seldom_meet_again(rows: int, block: int, row_bytes: int) -> None:
    """About as seldom as if every epoch were shuffled as a whole: a batch's part of all rows of the time."""
    assert met_again([(rows, block, row_bytes)], 192) < 192 / rows + 0.0125


def test_shuffled_windows__an_epoch_that_fits_is_shuffled_as_a_whole() -> None:
    (window,) = shuffled_windows([(3000, 32, 150_528), (500, 512, 3_072)], 8, np.random.default_rng(0))
    assert len(window.order) == 3500


def pieces_of(counts: list[int]) -> list[SubBatch]:
    return [SubBatch(np.arange(count), []) for count in counts]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.integers(1, 4), st.integers(1, 3))
def test_share__no_part_has_a_single_sample(counts: list[int], passes: int, processes: int) -> None:
    """Batch norm could not take it; and pairs that mixing makes stay together."""
    assume(sum(counts) >= 2 * passes * processes)
    found: list[list[int]] = [[] for _ in counts]
    for rank in range(processes):
        parts = Partition(passes, rank, processes).of(pieces_of(counts))
        assert len(parts) == passes
        for part, own in parts:
            size = sum(len(sub_batch.rows) for sub_batch in own)
            assert size >= 2
            assert part == pytest.approx(size / sum(counts))
            for sub_batch, count, rows in zip(own, counts, found, strict=True):
                assert set(sub_batch.rows) == {count - 1 - row for row in sub_batch.rows}
                rows.extend(sub_batch.rows.tolist())
    assert [sorted(rows) for rows in found] == [list(range(count)) for count in counts]


@pytest.mark.parametrize(("count", "partition"), [(1, Partition()), (3, Partition(passes=2)), (7, Partition(2, 0, 2))])
def test_batch_count__too_few_samples_are_a_user_error(count: int, partition: Partition) -> None:
    with pytest.raises(UserError, match=f"found {count}, expected at least {2 * partition.parts}"):
        batch_count(count, 16, partition)


@given(st.integers(2, 5000), st.integers(2, 300))
def test_batch_count__never_leaves_a_batch_of_one(count: int, batch_size: int) -> None:
    assert math.floor(count / batch_count(count, batch_size)) >= 2


@given(st.integers(1, 10**6), st.integers(1, 10**8))
def test_chunk_rows__powers_of_two_divide_one_another(rows: int, row_bytes: int) -> None:
    chunk = chunk_rows(rows, row_bytes)
    assert 1 <= chunk <= 512
    assert chunk == rows or chunk & (chunk - 1) == 0
    assert chunk == 1 or chunk * row_bytes <= 8 << 20
