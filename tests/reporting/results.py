"""Finished networks that never were: rows and manifests with given metrics."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kd.artefacts.job import Job
from kd.artefacts.manifest import read_manifest
from kd.reporting.base import Read, Row, Run
from kd.training.metrics import MULTI_LABEL_METRICS

SELECTIONS = ("best_val", "last")
CLASSES = ("cat", "dog", "unicorn")


def job(name: str) -> Job:
    return Job.make(Path(), "s", name, spec={}, code={}, upstream={})


def single_label(dataset: str, value: float) -> list[dict[str, Any]]:
    """acc@1, acc@5 and mAP on test, acc@1 on val."""
    return [
        {"dataset": dataset, "selection": selection, "metric": metric, "value": value}
        for selection in SELECTIONS
        for metric in ("acc@1", "acc@5", "mAP", "val_acc@1")
    ]


def multi_label(dataset: str, value: float) -> list[dict[str, Any]]:
    """mAP is `value`, each further metric a point less; of the last class nothing is known."""
    metrics = [
        {"dataset": dataset, "selection": selection, "metric": metric, "value": value - index}
        for selection in SELECTIONS
        for index, metric in enumerate((*MULTI_LABEL_METRICS, "val_mAP"))
    ]
    classes = [
        {"dataset": dataset, "selection": selection, "metric": "AP", "class": name, "value": precision}
        for selection in SELECTIONS
        for name, precision in zip(CLASSES, (value + 5, value - 5, None), strict=True)
    ]
    return metrics + classes


def run_of(rows: Sequence[Row], *datasets: str, selection: str = "last", read: Read = read_manifest) -> Run:
    """A finished run whose networks are these."""
    return Run("e", list(datasets), [0, 1], selection, "title", "svg", {}, rows, read)


class Results:
    """Rows for the tables, and their manifests."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.manifests: dict[str, dict[str, Any]] = {}

    def add(self, method: str, metrics: list[dict[str, Any]], **place: Any) -> None:
        """A network that is measured on some datasets, for the table of dataset `d` unless `place` says otherwise."""
        made = job(f"network{len(self.rows)}")
        defaults: dict[str, Any] = {"experiment": "e", "dataset": "d", "level": "", "seed": 0}
        self.rows.append(Row(method=method, job=made, **(defaults | place)))
        self.manifests[made.name] = {"result": {"metrics": metrics}}

    def run(self, *datasets: str, selection: str = "last") -> Run:
        """A run of these networks, of dataset `d` unless others are given."""
        return run_of(self.rows, *(datasets or "d"), selection=selection, read=lambda job: self.manifests[job.name])
