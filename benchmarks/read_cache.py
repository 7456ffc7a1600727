"""One epoch over cached maps, against reading the same bytes by numpy memmap, chunk by chunk in a random order.

    python -m benchmarks.read_cache [--small]

4 GiB of maps of 512 x 7 x 7 in float16. Each measurement is a process of its own. Ours gives shuffled batches of rows
whose checksums were verified; memmap copies chunks of one flat file, as large as those of the store, checks nothing and
shuffles nothing within a chunk. Cold: the system was told to forget the files; that they did come from the disk is
checked, since some file systems have none. No GPU takes part.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.jobs import in_own_process
from benchmarks.rows import Row, UnavailableError, main
from kd.data.loader import ColumnGroup, shuffled_batches
from kd.data.packed import Split
from kd.data.storage import spans
from kd.embeddings.options import Layout
from kd.embeddings.store import ComputedSplit, Rows, StoreReader, create_store, write_split

SHAPE = (512, 7, 7)
ROW_BYTES = 2 * 512 * 7 * 7
BATCH = 128
FLAT = "flat.bin"


class Cached:
    """The rows of the store, as a dataset that is read from disk."""

    def __init__(self, folder: Path, rows: int) -> None:
        self.groups = [ColumnGroup(dict(StoreReader(folder, ["L2"]).columns("train", np.arange(rows))), None)]


def make(folder: Path, rows: int) -> None:
    """A store and a flat file of the same float16 rows."""
    values = torch.randn(512, *SHAPE, generator=torch.Generator().manual_seed(0))
    split = Split(None, "train", np.zeros(rows), np.arange(rows), None)  # type: ignore[arg-type]
    layouts = {"L2": Layout(SHAPE, "float16")}

    def compute(part: Rows, _: int) -> dict[str, torch.Tensor]:
        assert isinstance(part, slice)
        return {"L2": values[: part.stop - part.start]}

    write_split(create_store(folder), ComputedSplit(split, layouts, 1, 512, compute))
    flat = np.memmap(folder / FLAT, dtype=np.float16, mode="w+", shape=(rows, *SHAPE))
    for start in range(0, rows, len(values)):
        flat[start : start + len(values)] = values[: rows - start].half().numpy()
    flat.flush()


def read_store(folder: Path, rows: int) -> int:
    """Read an epoch in shuffled batches; its bytes."""
    size = 0
    for (piece,) in shuffled_batches([Cached(folder, rows).groups], BATCH, seed=0, epoch=0):
        size += piece.values[0]["L2"].nbytes
    return size


def read_memmap(folder: Path, rows: int) -> int:
    """Copy all chunks of the flat file in a random order; their bytes."""
    size, chunks = 0, spans(rows, Cached(folder, rows).groups[0].block)
    flat = np.memmap(folder / FLAT, dtype=np.float16, mode="r", shape=(rows, *SHAPE))
    for number in np.random.default_rng(0).permutation(len(chunks)):
        size += np.array(flat[chunks[number]]).nbytes
    return size


def rate(kind: str, folder: Path, rows: int, *, cold: bool) -> float:
    """Bytes per second of one reader.

    Raises:
        UnavailableError: they did not come from the disk, though the page cache was to be cold.
    """
    torch.set_num_threads(1)
    read = {"store": read_store, "memmap": read_memmap}[kind]
    for path in folder.rglob("*") if cold else ():
        if path.is_file():
            forget(path)
    before, started = bytes_from_disk(), time.perf_counter()
    size = read(folder, rows)
    taken, from_disk = time.perf_counter() - started, bytes_from_disk() - before
    if size != rows * ROW_BYTES:
        raise ValueError(f"{kind}: read {size} bytes, expected {rows * ROW_BYTES}")
    if cold and from_disk < size / 2:
        raise UnavailableError(
            f"needs a folder for temporary files on a disk; {folder} is not, or its files stay cached"
        )
    return size / taken


def forget(path: Path) -> None:
    """Have the system drop a file from its page cache."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def bytes_from_disk() -> int:
    """Bytes that this process has made the system read from a disk."""
    (line,) = [line for line in Path("/proc/self/io").read_text().splitlines() if line.startswith("read_bytes")]
    return int(line.split()[1])


def measure(*, small: bool = False) -> list[Row]:
    """Ratios from a cold and from a warm page cache; rounds are interleaved."""
    size, rounds = (8 << 20, 1) if small else (4 << 30, 5)
    rows = size // ROW_BYTES
    ratios: dict[str, list[float]] = {"cold": [], "warm": []}
    with tempfile.TemporaryDirectory() as name:
        make(Path(name), rows)
        for _ in range(rounds):
            for state, values in ratios.items():
                ours, memmap = (
                    in_own_process(rate, kind, Path(name), rows, cold=state == "cold") for kind in ("store", "memmap")
                )
                values.append(ours / memmap)
    what = f"bytes per second of an epoch over {size >> 20} MiB of maps of 512 x 7 x 7, shuffled and with checksums"
    return [
        Row(what, f"numpy memmap by chunks in random order, both from a {state} page cache", values)
        for state, values in ratios.items()
    ]


if __name__ == "__main__":
    main(measure)
