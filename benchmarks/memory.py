"""Peak memory of building a cache and of training a student from it, streamed, for 8 x the data against 1 x.

    python -m benchmarks.memory [--small]

Each job is a process of its own that may keep no data in memory, so that everything is streamed: RGB images of 64 px,
4,000 and 32,000 of them, and maps of 512 x 4 x 4 in float16. The peak is the largest resident set in main memory, on a
machine with a GPU too.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.jobs import in_own_process, make_plan, make_stages, noise_dataset, streamed_peak, untrained_weights
from benchmarks.rows import Row, main

JOBS = {"cache_embeddings": "building a cache", "distill_student": "training a student from it"}
FACTOR = 8


def config(folder: Path, images: int, architecture: str) -> dict[str, Any]:
    """One teacher, and a small student that compares maps with it."""
    weights = untrained_weights(folder / "teacher.pt", architecture)
    return {
        "datasets": {"noise": noise_dataset(folder / "images", images, 64)},
        "models": {
            "teacher": {"architecture": architecture, "kwargs": {"output_stride": 16}, "weights": weights},
            "student": {"architecture": "test_resnet"},
        },
        "recipes": {"student": {"lr": 0.001, "epochs": 2, "batch_size": 64}},
        "teachers": {"teacher": {"dataset": "noise", "model": "teacher", "recipe": None}},
        "students": {"kd": {"teacher": "individual", "level": "L2", "model": "student", "recipe": "student"}},
    }


def peaks(images: int, architecture: str) -> dict[str, float]:
    """Peak MiB of each of `JOBS`."""
    with tempfile.TemporaryDirectory() as name:
        plan = make_plan(Path(name), config(Path(name), images, architecture))
        make_stages(plan, "prepare_dataset", "train_teacher")
        return {stage: in_own_process(streamed_peak, *plan.stage(stage)) for stage in JOBS}


def measure(*, small: bool = False) -> list[Row]:
    """The ratio of both peaks."""
    images, architecture = (64, "test_resnet") if small else (4000, "resnet18")
    one, many = (peaks(factor * images, architecture) for factor in (1, FACTOR))
    against = f"1 x the data ({images} images)"
    return [
        Row(f"peak memory of {what}, streamed: {FACTOR} x the data", against, [many[stage] / one[stage]])
        for stage, what in JOBS.items()
    ]


if __name__ == "__main__":
    main(measure)
