"""Networks that never were, with predictions on disk: what analyses of them read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kd.artefacts.job import Job
from kd.data.modalities.image import Samples
from kd.data.options import Task
from kd.data.packed import STORE, DatasetInfo, attributes_of
from kd.data.provenance import MADE_FROM, origin_of
from kd.data.storage import create_group
from kd.reporting.base import Row, Run
from kd.training.metrics import metric_rows
from kd.training.predictions import SELECTIONS, write_predictions


def pretend_dataset(job: Job, classes: Sequence[str]) -> None:
    """A packed dataset, of which only the description is there."""
    third = (0.5,) * 3
    info = DatasetInfo(job.name, tuple(classes), Samples(image_size=(8, 8)), third, third, {}, job.spec["task"])
    origin = {MADE_FROM: origin_of(job.model_dump(mode="json"))}
    create_group(job.directory / STORE).attrs.update(attributes_of(info) | origin)


class Stored:
    """A run of datasets and networks in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[Row] = []
        self.jobs: dict[Path, Job] = {}
        self.labels: dict[str, np.ndarray] = {}
        self.classes: dict[str, tuple[str, ...]] = {}
        self.metrics: dict[Path, list[dict[str, Any]]] = {}

    def job(
        self, stage: str, name: str, upstream: Mapping[str, Job] | None = None, spec: dict[str, Any] | None = None
    ) -> Job:
        """An artefact; `upstream` by role."""
        above = {role: job.as_upstream() for role, job in (upstream or {}).items()}
        made = Job.make(self.folder, stage, name, spec=spec or {}, code={}, upstream=above)
        self.jobs[made.directory] = made
        return made

    def dataset(self, name: str, labels: np.ndarray, classes: int) -> Job:
        """A dataset with these labels in test; its classes are called a, b, …."""
        task: Task = "multi_label" if labels.ndim == 2 else "single_label"
        self.labels[name], self.classes[name] = labels, tuple(f"class{number}" for number in range(classes))
        made = self.job("prepare_dataset", name, spec={"task": task})
        pretend_dataset(made, self.classes[name])
        return made

    def network(
        self, stage: str, method: str, dataset: str, logits: np.ndarray, *, seed: int = 0, **options: Any
    ) -> Job:
        """A network with a row; the weights that are shown, `last`, have these logits, the others their negatives.

        `options`: of its row; and `upstream` by role and `spec` of its job.
        """
        upstream, spec = options.pop("upstream", {}), options.pop("spec", {"recipe": None})
        made = self.job(stage, f"network{len(self.jobs)}", upstream, spec)
        made.directory.mkdir(parents=True)
        self.rows.append(
            Row(**({"experiment": "e", "level": ""} | options), method=method, dataset=dataset, seed=seed, job=made)
        )
        labels = self.labels[dataset]
        by_selection = dict(zip(SELECTIONS, (-logits, logits), strict=True))
        write_predictions(made.directory, dataset, np.arange(len(labels)) + 7, labels, by_selection)
        task: Task = "multi_label" if labels.ndim == 2 else "single_label"
        tensors = torch.from_numpy(logits), torch.from_numpy(labels)
        self.metrics[made.directory] = metric_rows(task, dataset, "last", self.classes[dataset], *tensors)
        return made

    def run(self) -> Run:
        """The run, finished."""

        def read(job: Job) -> dict[str, Any]:
            return {"result": {"metrics": self.metrics[job.directory]}}

        return Run("e", list(self.labels), [0, 1], "last", "title", "svg", self.jobs, self.rows, read)


def random_labels(images: int, classes: int, task: Task, seed: int = 0) -> np.ndarray:
    """Labels of test images; the last class of a multi-label dataset has no image."""
    rng = np.random.default_rng(seed)
    if task == "single_label":
        return rng.integers(0, classes, images)
    labels = (rng.random((images, classes)) < 0.3).astype(np.uint8)
    labels[:, -1] = 0
    return labels


def random_logits(labels: np.ndarray, classes: int, skill: float, seed: int = 0) -> np.ndarray:
    """Logits that know the labels a little."""
    rng = np.random.default_rng(1000 + seed)
    known = labels if labels.ndim == 2 else np.eye(classes)[labels]
    return (skill * known + rng.normal(size=known.shape)).astype(np.float32)
