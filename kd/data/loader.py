"""From stores on disk to batches: whole chunks are read ahead, mixed in memory, and never a single row.

In which order an epoch meets its samples is said by `kd.data.order`, which does not know how much memory there is:
whether data stay in memory or are streamed changes nothing but speed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from kd.common.errors import UserError
from kd.common.streams import generator
from kd.data.order import Window, shuffled_windows, view_of_epoch
from kd.data.storage import RowArray, spans

ORDERED_BYTES = 128 << 20  # read at once where nothing is shuffled
READERS = 4  # threads; also where there are fewer processors, to keep a disk busy


class Column(Protocol):
    """Values of the samples of a split, a row each, stored in chunks of rows; one or several views of them."""

    rows: int
    views: int
    chunk: int
    row_bytes: int
    """Of one row of one view, in memory."""

    def empty(self, rows: int) -> Tensor:
        """Room for some rows, on the CPU."""

    def fill(self, out: Tensor, rows: slice, view: int) -> None:
        """Read consecutive rows of a view into `out`."""


class RawColumn:
    """The values of an array as they are stored."""

    def __init__(self, array: RowArray) -> None:
        self.array = array
        self.rows, self.views, self.chunk, self.row_bytes = array.rows, array.views, array.chunk, array.row_bytes

    def empty(self, rows: int) -> Tensor:
        """Uninitialised."""
        return torch.from_numpy(np.empty((rows, *self.array.row_shape), self.array.dtype))

    def fill(self, out: Tensor, rows: slice, view: int) -> None:
        """Straight from the file."""
        self.array.read(rows, view, out.numpy())


@dataclass
class MemoryBudget:
    """The memory in which data may stay between epochs.

    Attributes:
        to_device: brings tensors to where networks compute.
        host: bytes that are left for data in main memory.
        device: bytes that are left for data on the device; 0 where this is the CPU.
    """

    to_device: Callable[[Tensor], Tensor]
    host: int
    device: int = 0

    def reserve(self, size: int) -> Callable[[Tensor], Tensor] | None:
        """How to keep `size` bytes between epochs: what brings them to their place; None: there is no room."""
        if size <= self.device:
            self.device -= size
            return self.to_device
        if size <= self.host:
            self.host -= size
            return lambda tensor: tensor
        return None


class ColumnGroup:
    """Columns that are read together.

    Args:
        columns: by name.
        memory: None: nothing is kept; for data that are read once.
        views: how many of the stored views are read; None: all.
    """

    def __init__(self, columns: dict[str, Column], memory: MemoryBudget | None, views: int | None = None) -> None:
        self.columns = columns
        first = next(iter(columns.values()))
        self.rows, self.views = first.rows, first.views if views is None else views
        self.block = max(column.chunk for column in columns.values())
        self.row_bytes = sum(column.row_bytes for column in columns.values())
        self._keep = memory.reserve(self.rows * self.row_bytes * self.views) if memory else None
        self._kept: dict[int, dict[str, Tensor]] = {}
        self._buffers: list[dict[str, Tensor]] = [{}, {}]

    def load(self, wanted: Sequence[slice], epoch: int | None, turn: int, readers: Executor) -> Callable[[], Loaded]:
        """Begin to read some blocks of the view that belongs to an epoch; None: the first view.

        Returns:
            What waits for them and gives them. They are there until the next call with the same `turn`, 0 or 1.
        """
        view = view_of_epoch(epoch, self.views)
        keep = self._keep
        if keep is None:
            # Two buffers in turn: one is read into while the rows of the other are being taken. They are
            # kept, since fresh memory costs as much as reading.
            begun = self._read(wanted, view, self._buffers[turn], readers)
            return lambda: Loaded(begun(), whole=False)
        if view not in self._kept:
            whole = self._read([slice(0, self.rows)], view, {}, readers)
            self._kept[view] = {name: keep(value) for name, value in whole().items()}
        return lambda: Loaded(self._kept[view], whole=True)

    def _read(
        self, wanted: Sequence[slice], view: int, buffer: dict[str, Tensor], readers: Executor
    ) -> Callable[[], dict[str, Tensor]]:
        """Begin to read into a buffer, which grows where it is too small."""
        count = sum(each.stop - each.start for each in wanted)
        for name, column in self.columns.items():
            if name not in buffer or len(buffer[name]) < count:
                buffer[name] = column.empty(count)
        values = {name: buffer[name][:count] for name in self.columns}
        reads = []
        for name, column in self.columns.items():
            start = 0
            for each in wanted:
                for rows in spans(each.stop, column.chunk, each.start):
                    stop = start + rows.stop - rows.start
                    reads.append(readers.submit(column.fill, values[name][start:stop], rows, view))
                    start = stop

        def finish() -> dict[str, Tensor]:
            for read in reads:
                read.result()
            return values

        return finish


@dataclass(frozen=True)
class Loaded:
    """Values of a group in memory: of all its rows, or of the blocks of a window."""

    values: dict[str, Tensor]
    whole: bool

    def take(self, rows: np.ndarray, positions: np.ndarray) -> dict[str, Tensor]:
        """Chosen rows; `rows` are their numbers in the group, `positions` those in the window."""
        return _chosen(self.values, rows if self.whole else positions)


def _chosen(values: dict[str, Tensor], rows: np.ndarray) -> dict[str, Tensor]:
    return {name: value.index_select(0, torch.from_numpy(rows).to(value.device)) for name, value in values.items()}


@dataclass(frozen=True)
class SubBatch:
    """The part of a batch that is of one dataset.

    Attributes:
        rows: (B,) numbers of the samples in their split.
        values: of each group, (B, ...) by column, wherever the group keeps its data.
    """

    rows: np.ndarray
    values: list[dict[str, Tensor]]

    def take(self, places: np.ndarray) -> SubBatch:
        """Some of its samples."""
        return SubBatch(self.rows[places], [_chosen(columns, places) for columns in self.values])


@dataclass(frozen=True)
class Partition:
    """The parts of every batch that one process computes.

    A batch is the batch of an optimiser step, however many processes share it and in however many passes each of
    them computes its partition, one after another.
    """

    passes: int = 1
    rank: int = 0
    processes: int = 1

    @property
    def parts(self) -> int:
        """Number of parts of a batch, over all processes."""
        return self.passes * self.processes

    def of(self, sub_batches: list[SubBatch]) -> list[tuple[float, list[SubBatch]]]:
        """The parts of a batch that this process computes, one per pass, each with how much of the batch it is.

        A sample and the one at its place in the reversed batch stay together, so that whoever pairs them, as
        `kd.training.mixing` does, finds the same pairs in the parts as in the whole. Of a batch of `batch_count`, each
        part has two samples at least.
        """
        if self.parts == 1:
            return [(1.0, sub_batches)]
        counts = [len(sub_batch.rows) for sub_batch in sub_batches]
        owners = self._owners(counts)
        count = sum(counts)
        parts = []
        for part in range(self.rank * self.passes, (self.rank + 1) * self.passes):
            own = [np.flatnonzero(owner == part) for owner in owners]
            taken = [sub_batch.take(each) for sub_batch, each in zip(sub_batches, own, strict=True)]
            parts.append((sum(len(each) for each in own) / count, taken))
        return parts

    def _owners(self, counts: Sequence[int]) -> list[np.ndarray]:
        """Number of the part that each sample goes to, for each dataset.

        Pairs are dealt to the parts in turn and then, two by two, the samples in the middle, which have no partner: so
        no part has a single sample while another has a whole pair more.
        """
        pairs = sum(count // 2 for count in counts)
        owners, first, middle = [], 0, 2 * pairs
        for count in counts:
            places = np.arange(count)
            units = np.minimum(places, places[::-1]) + first
            if count % 2:
                units[count // 2] = middle // 2
                middle += 1
            first += count // 2
            owners.append(units % self.parts)
        return owners


WHOLE = Partition()


def batch_count(count: int, batch_size: int, partition: Partition = WHOLE) -> int:
    """Batches in an epoch: of about `batch_size`, but no part of one sample, which batch norm cannot take.

    Raises:
        UserError: there are not enough samples for one batch of as many parts.
    """
    least = 2 * partition.parts
    if count < least:
        raise UserError(
            f"training samples: found {count}, expected at least {least}: two for each of {partition.passes} passes"
            f" (recipe accumulate) in each of {partition.processes} processes"
        )
    return min(-(-count // batch_size), count // least)


def shuffled_batches(
    datasets: Sequence[Sequence[ColumnGroup]],
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    start: int = 0,
    partition: Partition = WHOLE,
) -> Iterator[list[SubBatch]]:
    """An epoch: every sample of every dataset once, shuffled together.

    Args:
        datasets: the groups of each, which are read in step; datasets are mixed with one another.
        batch_size: about that many samples make a batch, over all datasets.
        seed: of the run.
        epoch: from 0; stored views follow it.
        start: batches that are left out; what only they need is not read.
        partition: how batches will be cut.

    Yields:
        For each batch a sub-batch of each dataset, some perhaps without rows.
    """
    count = sum(groups[0].rows for groups in datasets)
    windows = shuffled_windows(list(map(_weights, datasets)), batch_size, generator("order", seed, epoch, count))
    batches = batch_count(count, batch_size, partition)
    sizes = [len(each) for each in np.array_split(np.empty(count, np.int8), batches)]
    return _batches(datasets, windows, sizes, epoch, start)


def ordered_batches(groups: Sequence[ColumnGroup], batch_size: int) -> Iterator[SubBatch]:
    """Every sample of a dataset in the order of its rows, in the first view."""
    rows, block, row_bytes = _weights(groups)
    step = block * max(1, ORDERED_BYTES // (block * row_bytes))
    windows = [Window([[part]], np.arange(part.stop - part.start)) for part in spans(rows, step)]
    sizes = [part.stop - part.start for part in spans(rows, batch_size)]
    return (sub_batches[0] for sub_batches in _batches([groups], windows, sizes, None))


def _weights(groups: Sequence[ColumnGroup]) -> tuple[int, int, int]:
    """Rows, rows in a block, and bytes of a row of a dataset."""
    return groups[0].rows, max(group.block for group in groups), sum(group.row_bytes for group in groups)


def _batches(
    datasets: Sequence[Sequence[ColumnGroup]],
    windows: Sequence[Window],
    sizes: Sequence[int],
    epoch: int | None,
    first: int = 0,
) -> Iterator[list[SubBatch]]:
    """Cut the rows of consecutive windows into batches, from the `first` on; the next window is read meanwhile."""
    start, sizes = sum(sizes[:first]), sizes[first:]
    while windows and start >= len(windows[0].order):
        start, windows = start - len(windows[0].order), windows[1:]
    if not windows:
        return

    def load(number: int) -> list[list[Callable[[], Loaded]]]:
        return [
            [group.load(spans, epoch, number % 2, readers) for group in groups]
            for groups, spans in zip(datasets, windows[number].spans, strict=True)
        ]

    begun: list[SubBatch] | None = None
    missing = iter(sizes)
    want = next(missing)
    with ThreadPoolExecutor(READERS) as readers:
        ahead = load(0)
        for number, window in enumerate(windows):
            loaded = [[finish() for finish in groups] for groups in ahead]
            if number + 1 < len(windows):
                ahead = load(number + 1)
            rows = [window.rows(dataset) for dataset in range(len(datasets))]
            while start < len(window.order):
                chosen = window.order[start : start + want]
                start, want = start + len(chosen), want - len(chosen)
                sub_batches = _take(chosen, window, rows, loaded)
                begun = sub_batches if begun is None else _join(begun, sub_batches)
                if want == 0:
                    yield begun
                    begun, want = None, next(missing, 0)
            start = 0


def _take(chosen: np.ndarray, window: Window, rows: list[np.ndarray], loaded: list[list[Loaded]]) -> list[SubBatch]:
    sub_batches = []
    for dataset, groups in enumerate(loaded):
        low, high = window.starts[dataset : dataset + 2]
        positions = chosen[(chosen >= low) & (chosen < high)] - low
        numbers = rows[dataset][positions]
        sub_batches.append(SubBatch(numbers, [group.take(numbers, positions) for group in groups]))
    return sub_batches


def _join(first: list[SubBatch], second: list[SubBatch]) -> list[SubBatch]:
    """A batch that reaches from one window into the next."""
    return [
        SubBatch(
            np.concatenate([one.rows, other.rows]),
            [
                {name: torch.cat([value, more[name]]) for name, value in columns.items()}
                for columns, more in zip(one.values, other.values, strict=True)
            ],
        )
        for one, other in zip(first, second, strict=True)
    ]
