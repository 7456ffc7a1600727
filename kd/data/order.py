"""In which order an epoch meets its samples: a pure function of seed, epoch, batch size and what the rows weigh.

An epoch that weighs no more than `WINDOW_BYTES` is shuffled as a whole. Of any other, blocks of rows are shuffled and
dealt to windows of about that weight, but of `WINDOW_BATCHES` batches at least; then the rows of each window are
shuffled. A window is what has to be in memory at once where data are streamed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kd.data.storage import spans

WINDOW_BYTES = 512 << 20
WINDOW_BATCHES = 16  # in fewer, the samples of a batch would meet again too often in the next epoch


@dataclass(frozen=True)
class Window:
    """A part of an epoch that is in memory at once.

    Attributes:
        spans: consecutive rows that are read, for each dataset.
        order: (rows,) in which they are met; they are numbered dataset after dataset.
    """

    spans: list[list[slice]]
    order: np.ndarray

    @cached_property
    def starts(self) -> np.ndarray:
        """Number of the first row of each dataset, and that of all rows."""
        return np.cumsum([0, *(sum(each.stop - each.start for each in spans) for spans in self.spans)])

    def rows(self, dataset: int) -> np.ndarray:
        """Numbers, in its split, of the rows of one dataset."""
        parts = [np.arange(each.start, each.stop) for each in self.spans[dataset]]
        return np.concatenate(parts) if parts else np.arange(0)


def view_of_epoch(epoch: int | None, views: int | None) -> int:
    """Number of the view that everybody sees in an epoch.

    Args:
        epoch: counted from 0; None: outside of training, where the first view is that of the samples themselves.
        views: that repeat over the epochs; None: each epoch has a new one.
    """
    return 0 if epoch is None else epoch if views is None else epoch % views


def shuffled_windows(
    weights: Sequence[tuple[int, int, int]], batch_size: int, stream: np.random.Generator
) -> list[Window]:
    """Cut an epoch into windows: one if it weighs no more than `WINDOW_BYTES`, or has fewer than 32 batches.

    Each window has its share of every dataset, give or take a block, and at least `WINDOW_BATCHES` batches. So it
    weighs no more than `WINDOW_BYTES`, or than twice as many batches where that is more, and a block of each dataset.

    Args:
        weights: of each dataset: rows, rows in a block, bytes of a row.
        batch_size: rows of a batch.
        stream: of random numbers.
    """
    least = WINDOW_BATCHES * batch_size + sum(min(block, rows) for rows, block, _ in weights)
    size = sum(rows * row_bytes for rows, _, row_bytes in weights)
    count = max(1, min(sum(rows for rows, _, _ in weights) // least, -(-size // WINDOW_BYTES)))
    dealt: list[list[list[slice]]] = [[[] for _ in weights] for _ in range(count)]
    for number, (rows, block, _) in enumerate(weights):
        blocks = spans(rows, block)
        met = stream.random()  # so that the only block of a small dataset may be in any window
        for chosen in stream.permutation(len(blocks)):
            dealt[int(met * count) % count][number].append(blocks[chosen])
            met += (blocks[chosen].stop - blocks[chosen].start) / rows
    return [_window(parts, stream) for parts in dealt]


def _window(parts: list[list[slice]], stream: np.random.Generator) -> Window:
    count = sum(each.stop - each.start for spans in parts for each in spans)
    return Window([sorted(each, key=lambda part: part.start) for each in parts], stream.permutation(count))
