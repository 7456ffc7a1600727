"""One epoch over cached maps, against reading the same bytes by numpy memmap in the same chunk order.

    python -m benchmarks.read_cache [--gib 4] [--rounds 5] [--cold]

Each measurement is a process of its own. Ours gives shuffled batches of rows whose checksums were verified;
memmap copies chunk after chunk of one flat file, checks nothing and shuffles nothing within a chunk.
`--cold` drops the page cache before each measurement (as root).
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SHAPE = (512, 7, 7)
BATCH = 128
FLAT = "flat.bin"


def make(folder: Path, rows: int) -> None:
    """A store and a flat file of the same float16 rows."""
    import torch

    from kd.data.packed import Split
    from kd.embeddings.store import Layout, create_store, write_split

    values = torch.randn(512, *SHAPE, generator=torch.Generator().manual_seed(0))
    split = Split(None, "train", np.zeros(rows), np.arange(rows), None)  # type: ignore[arg-type]
    layouts = {"L2": Layout(SHAPE, "float16")}
    write_split(create_store(folder), split, layouts, 1, lambda part, _: {"L2": values[: part.stop - part.start]}, 512)
    flat = np.memmap(folder / FLAT, dtype=np.float16, mode="w+", shape=(rows, *SHAPE))
    for start in range(0, rows, len(values)):
        flat[start : start + len(values)] = values[: rows - start].half().numpy()
    flat.flush()


def read_ours(folder: Path, rows: int) -> float:
    """MB/s of an epoch in shuffled batches."""
    import torch

    from kd.data.feed import Table, shuffled_batches
    from kd.embeddings.store import StoreReader

    class Cached:
        tables = [Table(dict(StoreReader(folder, ["L2"]).columns("train", np.arange(rows))), None)]

    torch.set_num_threads(1)
    started, size = time.perf_counter(), 0
    for (piece,) in shuffled_batches([Cached()], BATCH, seed=0, epoch=0):
        size += piece.values[0]["L2"].nbytes
    return size / (time.perf_counter() - started) / 1e6


def read_memmap(folder: Path, rows: int) -> float:
    """MB/s of copying the chunks of the flat file, in the order of the same epoch."""
    from kd.data.order import shuffled_windows
    from kd.data.storage import chunk_rows, spans
    from kd.streams import generator

    row_bytes = int(np.prod(SHAPE)) * 2
    block = chunk_rows(rows, row_bytes)
    windows = shuffled_windows([(rows, block, row_bytes)], BATCH, generator("order", 0, 0, rows))
    started, size = time.perf_counter(), 0
    flat = np.memmap(folder / FLAT, dtype=np.float16, mode="r", shape=(rows, *SHAPE))
    for window in windows:
        for wanted in window.spans[0]:
            for part in spans(wanted.stop - wanted.start, block):
                size += np.array(flat[wanted.start + part.start : wanted.start + part.stop]).nbytes
    return size / (time.perf_counter() - started) / 1e6


def measure(kind: str, folder: Path, rows: int, *, cold: bool) -> float:
    """MB/s of one reader in a process of its own."""
    if cold:
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("3")
    command = [
        sys.executable,
        "-m",
        "benchmarks.read_cache",
        "--reader",
        kind,
        "--folder",
        str(folder),
        "--rows",
        str(rows),
    ]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Print the ratio of every round and their median."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=4.0, help="size of the store (default: 4)")
    parser.add_argument("--rounds", type=int, default=5, help="(default: 5)")
    parser.add_argument("--cold", action="store_true", help="drop the page cache before each measurement")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--reader", choices=["ours", "memmap"], help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.reader:
        read = {"ours": read_ours, "memmap": read_memmap}[options.reader]
        print(read(options.folder, options.rows))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder, rows = Path(name), int(options.gib * 2**30) // (int(np.prod(SHAPE)) * 2)
        make(folder, rows)
        ratios = []
        for number in range(options.rounds):
            ours, memmap = (measure(kind, folder, rows, cold=options.cold) for kind in ("ours", "memmap"))
            ratios.append(ours / memmap)
            print(f"round {number}: ours {ours:.0f} MB/s, memmap {memmap:.0f} MB/s, ratio {ratios[-1]:.2f}", flush=True)
        print(f"epoch over {options.gib:g} GiB of cached maps / memmap: {statistics.median(ratios):.2f} (median)")


if __name__ == "__main__":
    main()
