"""What checkpoints cost: seconds spent writing them, as a part of all seconds of a training.

    python -m benchmarks.checkpoints [--small]

resnet50 at 32 px with AdamW and a moving average of the weights: four times the weights for each checkpoint, and steps
that are short for it. In three minutes of training they are written as in any training: at most every 30 s, and more
seldom where that takes long. With `--small` after every step.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.jobs import epoch_seconds, make_plan, make_stages, noise_dataset, seconds_of
from benchmarks.rows import Row, main
from kd.artefacts.files import replacing
from kd.planning.plan import Plan
from kd.training import loop

SECONDS = 180


class Saves:
    """Seconds of each checkpoint, and the MiB of the last."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.mib = 0.0

    @contextmanager
    def replacing(self, path: Path) -> Iterator[Path]:
        """In place of the loop's function that replaces a file as a whole."""
        started = time.perf_counter()
        with replacing(path) as partial:
            yield partial
        if path.name == loop.CHECKPOINT:
            self.seconds.append(time.perf_counter() - started)
            self.mib = path.stat().st_size / 2**20


def plan_of(folder: Path, dataset: dict[str, Any], architecture: str, epochs: int) -> Plan:
    """One training."""
    config = {
        "datasets": {"noise": dataset},
        "models": {"network": {"architecture": architecture}},
        "recipes": {"network": {"lr": 0.0001, "epochs": epochs, "batch_size": 64, "ema": 0.999}},
        "teachers": {"noise": {"dataset": "noise", "model": "network", "recipe": "network"}},
    }
    return make_plan(folder, config)


def measure(*, small: bool = False) -> list[Row]:
    """Their part of the time, and their size."""
    architecture, images, wanted = ("test_resnet", 64, 0.1) if small else ("resnet50", 512, SECONDS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dataset = noise_dataset(folder / "images", images, 32)
        short = plan_of(folder, dataset, architecture, 2)
        make_stages(short, "prepare_dataset", "train_teacher")
        epoch = epoch_seconds(short.stage("train_teacher")[0])[1]
        (job,) = plan_of(folder, dataset, architecture, max(2, round(wanted / epoch))).stage("train_teacher")
        saves = Saves()
        every_step = mock.patch.multiple(loop, CHECKPOINT_EVERY_SECONDS=0.0, CHECKPOINT_COST=1.0)
        with mock.patch.object(loop, "replacing", saves.replacing), every_step if small else nullcontext():
            seconds_of(job)
        total = float(epoch_seconds(job).sum())
    what = f"writing checkpoints of {saves.mib:.0f} MiB, as often as a training does: seconds"
    return [Row(what, f"seconds of the training, {architecture} at 32 px", [sum(saves.seconds) / total])]


if __name__ == "__main__":
    main(measure)
