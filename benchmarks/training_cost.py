"""What training costs: students from the cache and with live teachers, and joint teachers.

    python -m benchmarks.training_cost [--small]

Seconds of an epoch as the training loop records them, with its validation; the first epoch, which also reads
from disk what then stays in memory, is left out. Students: resnet18 at 64 px, three teachers of the same kind,
a joint teacher fused at L2 with adaptors of 4,096 channels. Joint teachers: on the demo's dataset mnist5k with
its networks and recipes, one epoch as a part of one whole individual training of the demo.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.jobs import (
    demo,
    epoch_seconds,
    job_of,
    make_plan,
    make_stages,
    noise_dataset,
    seconds_of,
    untrained_weights,
)
from benchmarks.rows import Row, main
from kd.artefacts.job import Job

DATASET = "mnist5k"
TEACHERS = ("one", "two", "three")
BEFORE_STUDENTS = ("prepare_dataset", "train_teacher", "cache_embeddings", "train_joint_teacher", "cache_targets")


def students_config(folder: Path, *, small: bool) -> dict[str, Any]:
    """Students of a wide joint teacher of three teachers, with stored views and live; and plain training."""
    architecture, images, width, epochs = ("test_resnet", 40, 16, 2) if small else ("resnet18", 512, 4096, 4)
    weights = untrained_weights(folder / "teacher.pt", architecture)
    recipe = {"lr": 0.001, "batch_size": 64, "augmentation": "shake"}
    fused = {"level": "L2", "width": width, "recipe": "short"}
    return {
        "datasets": {"noise": noise_dataset(folder / "images", images, 64)},
        "models": {
            "plain": {"architecture": architecture},
            "teacher": {"architecture": architecture, "weights": weights},
        },
        "augmentations": demo()["augmentations"],
        "recipes": {"network": recipe | {"epochs": epochs}, "short": recipe | {"epochs": 1}},
        "teachers": {name: {"dataset": "noise", "model": "teacher", "recipe": None} for name in TEACHERS},
        "joint_teachers": {"stored": fused | {"views": 2}, "live": fused | {"views": "live", "experiment": "live"}},
        "students": {
            "stored": {"teacher": "stored", "model": "plain", "recipe": "network"},
            "live": {"teacher": "live", "model": "plain", "recipe": "network", "experiment": "live"},
        },
        "baselines": {"plain": {"model": "plain", "recipe": "network"}},
    }


def epoch_of(job: Job) -> float:
    """Median seconds of an epoch but the first, of a training from the start."""
    seconds_of(job)
    return float(epoch_seconds(job)[1:].median())


def students(*, small: bool) -> list[Row]:
    """An epoch of students in units of one of plain training."""
    with tempfile.TemporaryDirectory() as name:
        plan = make_plan(Path(name), students_config(Path(name), small=small))
        make_stages(plan, *BEFORE_STUDENTS)
        plain = plan.stage("train_baseline")[0]
        ratios: dict[str, list[float]] = {"stored": [], "live": []}
        for _ in range(1 if small else 3):
            reference = epoch_of(plain)
            for kind, values in ratios.items():
                values.append(epoch_of(job_of(plan, "distill_student", kind)) / reference)
    what = {
        "stored": "an epoch of a student, from stored targets of a wide joint teacher",
        "live": "an epoch of a student, with the joint teacher and three teachers live",
    }
    return [Row(what[kind], "an epoch of plain supervised training", values) for kind, values in ratios.items()]


def demo_config(*, small: bool) -> dict[str, Any]:
    """Of the demo one dataset and its joint teachers; of its teachers only one is trained as long as there."""
    whole = demo()
    recipes = {name: each | ({"epochs": 2} if small else {}) for name, each in whole["recipes"].items()}
    split = {"train": 60, "val": 20, "test": 20} if small else whole["datasets"][DATASET]["split"]
    return whole | {
        "seeds": [0],
        "datasets": {DATASET: whole["datasets"][DATASET] | {"split": split}},
        "recipes": recipes | {"short": recipes["network"] | {"epochs": 1}},
        "teachers": {
            name: teacher if teacher["dataset"] == DATASET else teacher | {"dataset": DATASET, "recipe": "short"}
            for name, teacher in whole["teachers"].items()
        },
        "joint_teachers": {
            name: options | {"views": 2}
            for name, options in whole["joint_teachers"].items()
            if DATASET in options["targets"]
        },
        "students": {},
        "baselines": {},
    }


def joint_teachers(*, small: bool) -> list[Row]:
    """An epoch of joint teachers in units of one whole individual training of the demo."""
    with tempfile.TemporaryDirectory() as name:
        plan = make_plan(Path(name), demo_config(small=small))
        make_stages(plan, "prepare_dataset", "train_teacher", "cache_embeddings")
        individual = job_of(plan, "train_teacher", DATASET)
        ratios: dict[str, list[float]] = {job.spec["level"]: [] for job in plan.stage("train_joint_teacher")}
        for _ in range(1 if small else 3):
            seconds_of(individual)
            whole = epoch_seconds(individual).sum()
            for job in plan.stage("train_joint_teacher"):
                ratios[job.spec["level"]].append(epoch_of(job) / whole)
    against = "one whole individual training of the demo"
    return [Row(f"an epoch of a joint teacher, on cached {level}", against, values) for level, values in ratios.items()]


def measure(*, small: bool = False) -> list[Row]:
    """Students, then joint teachers."""
    return students(small=small) + joint_teachers(small=small)


if __name__ == "__main__":
    main(measure)
