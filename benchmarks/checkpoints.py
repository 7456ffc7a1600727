"""What checkpoints cost: seconds spent writing them, as a part of all seconds of a training.

    python -m benchmarks.checkpoints [--minutes 3]

resnet50 at 32 px with AdamW and a moving average of the weights: four times the weights for each checkpoint, and steps
that are short for it. As trainings are, written at most every 30 s, and more seldom where that takes long. For
comparison, what one after each epoch would cost.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from kd.data.options import SplitOptions
from kd.jobs.files import replacing
from kd.models.spec import ModelSpec
from kd.training import loop
from kd.training.recipe import Recipe
from kd.training.supervised import train_network
from tests.conftest import pack_digits

TRAIN = 512


class Saves:
    """Counts and times what the loop writes."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.bytes = 0

    @contextmanager
    def replacing(self, path: Path) -> Iterator[Path]:
        """In place of the function that writes a file whole."""
        started = time.perf_counter()
        with replacing(path) as partial:
            yield partial
        if path.name == loop.CHECKPOINT:
            self.seconds.append(time.perf_counter() - started)
            self.bytes = path.stat().st_size


def train(root: Path, epochs: int) -> pd.Series:
    """Seconds of each epoch."""
    recipe = Recipe(lr=1e-4, epochs=epochs, batch_size=64, ema=0.999)
    (root / "run").mkdir(exist_ok=True)
    train_network(root / "run", [root / "dataset"], ModelSpec(architecture="resnet50"), recipe, 0)
    loop.finish(root / "run")
    return pd.read_csv(root / "run" / loop.HISTORY)["seconds"]


def main() -> None:
    """Print checkpoints, their size and their part of the time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=3, help="of training (default: 3)")
    minutes: float = parser.parse_args().minutes
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "dataset").mkdir()
        pack_digits(root / "dataset", "digits", SplitOptions(train=TRAIN, val=20, test=20), channels=3)
        epoch = train(root, 2)[1]
        saves = Saves()
        vars(loop)["replacing"] = saves.replacing
        total = train(root, max(2, round(60 * minutes / epoch))).sum()
    written = sum(saves.seconds)
    each = written / len(saves.seconds)
    print(f"{len(saves.seconds)} checkpoints of {saves.bytes / 2**20:.0f} MiB in {total:.0f} s, {each:.2f} s each")
    print(f"part of the time of training: {written / total:.4f}")
    print(f"after every epoch ({epoch:.1f} s) it would be: {each / (epoch + each):.4f}")


if __name__ == "__main__":
    main()
