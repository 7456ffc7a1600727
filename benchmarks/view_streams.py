"""What it changes that teachers are trained on views of their own, and not on those that are cached for students.

    python -m benchmarks.view_streams [--small]

The teacher of the demo's smallest dataset, and a student that is distilled from it alone, over several seeds: as the
project trains them, in ratio to a teacher that was trained on the very views that are cached. Its outputs on these are
then over-confident, so its cross-entropy on them is lower; and the student may agree with it more or less on test.
"""

from __future__ import annotations

import tempfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch.nn import functional

from benchmarks.jobs import demo, job_of, make_plan, make_stages
from benchmarks.rows import Row, main
from kd.data.modalities.base import Modality, View, views_of
from kd.data.packed import open_split
from kd.models.devices import make_fabric
from kd.models.weights import load_network
from kd.planning.plan import Plan
from kd.training.measuring import predict
from kd.training.samples import ViewedSamples

AGAINST = "the same with a teacher that was trained on the cached views"
STAGES = ("prepare_dataset", "train_teacher", "cache_embeddings", "distill_student")


class Outcome(NamedTuple):
    """Of a teacher and its student under one seed.

    Attributes:
        accuracy: of the student on test, in percent.
        agreement: percent of test images that student and teacher give the same class.
        cross_entropy: of the teacher on the cached views of its training images.
    """

    accuracy: float
    agreement: float
    cross_entropy: float


def demo_config(*, small: bool) -> dict[str, Any]:
    """Of the demo the dataset with the fewest training images, its teacher, and single-dataset distillation."""
    whole = demo()
    name = min(whole["datasets"], key=lambda each: whole["datasets"][each]["split"]["train"])
    teacher = next(key for key, each in whole["teachers"].items() if each["dataset"] == name)
    recipe = whole["teachers"][teacher]["recipe"]
    split = {"train": 60, "val": 20, "test": 100} if small else whole["datasets"][name]["split"]
    views = 2 if small else 40
    return {
        "seeds": [0, 1] if small else list(range(8)),
        "datasets": {name: whole["datasets"][name] | {"split": split}},
        "models": whole["models"],
        "augmentations": whole["augmentations"],
        "recipes": {recipe: whole["recipes"][recipe] | ({"epochs": 6} if small else {})},
        "teachers": {"teacher": whole["teachers"][teacher]},
        "students": {"student": {"teacher": "individual", "level": "L1", "views": views, "recipe": recipe}},
    }


def trained_on_cached_views() -> AbstractContextManager[object]:
    """Within it teachers see, while they are trained, the views that are cached later."""

    def shared(samples: Modality, _: str, *further: Any) -> View:
        return views_of(samples, "shared", *further)

    return mock.patch("kd.training.supervised.views_of", shared)


def outcome(plan: Plan, seed: int) -> Outcome:
    """Measure a finished pair."""
    fabric = make_fabric("32")
    student_job = job_of(plan, "distill_student", f"student-for-{next(iter(plan.config.datasets))}-seed{seed}")
    teacher_job = job_of(plan, "train_teacher", f"teacher-seed{seed}")
    student, teacher = (fabric.to_device(load_network(job.directory)) for job in (student_job, teacher_job))
    dataset = job_of(plan, "prepare_dataset", "").directory
    test, train = (open_split(dataset, name) for name in ("test", "train"))
    augmentation = plan.config.recipe(next(iter(plan.config.recipes))).augmentation
    views = views_of(train.info.samples, "shared", train.info.name, seed, augmentation)
    samples = ViewedSamples(test, views, fabric, None)
    scores, labels = predict(student, samples, 64)
    theirs, _ = predict(teacher, samples, 64)
    losses = []
    for view in range(student_job.spec["views"]):
        with torch.no_grad():
            seen = views(fabric.to_device(torch.from_numpy(train.images.read())), train.ids, view)
            logits = teacher(seen).logits[train.info.name].cpu()
        losses.append(functional.cross_entropy(logits, torch.from_numpy(train.labels)).item())
    choice, other = scores.argmax(dim=1), theirs.argmax(dim=1)
    return Outcome(
        accuracy=100 * (choice == labels).double().mean().item(),
        agreement=100 * (choice == other).double().mean().item(),
        cross_entropy=sum(losses) / len(losses),
    )


def measure(*, small: bool = False) -> list[Row]:
    """Ratios, a round for each seed."""
    config = demo_config(small=small)
    found: dict[bool, list[Outcome]] = {}
    for apart in (True, False):
        with tempfile.TemporaryDirectory() as folder:
            plan = make_plan(Path(folder), config)
            with nullcontext() if apart else trained_on_cached_views():
                make_stages(plan, *STAGES)
            found[apart] = [outcome(plan, seed) for seed in plan.config.seeds]
    pairs = list(zip(found[True], found[False], strict=True))
    what = {
        "cross_entropy": "cross-entropy of a teacher on the views that are cached, which are not those of its training",
        "agreement": "test images on which a student agrees with that teacher",
        "accuracy": "test accuracy of that student",
    }
    return [
        Row(text, AGAINST, [getattr(ours, name) / max(getattr(theirs, name), 1e-9) for ours, theirs in pairs])
        for name, text in what.items()
    ]


if __name__ == "__main__":
    main(measure)
