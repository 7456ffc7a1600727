"""Each class against numbers counted one image at a time."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

from kd.reporting.tables.per_class import Report, per_class, ranked_classes, readable_per_class
from tests.reporting.stored import Stored, random_labels, random_logits


def two_methods(folder: Path, task: str, classes: int = 5) -> tuple[Stored, dict[tuple[str, int], np.ndarray]]:
    """An individual teacher and a student, over two seeds; the student of a sweep counts for nothing."""
    stored = Stored(folder)
    labels = random_labels(40, classes, "multi_label" if task == "multi_label" else "single_label")
    if task == "single_label":
        labels[labels == classes - 1] = 0  # so that the last class has no image
    stored.dataset("d", labels, classes)
    logits = {}
    for number, (method, seed) in enumerate([("individual", 0), ("individual", 1), ("student", 0), ("student", 1)]):
        logits[method, seed] = random_logits(labels, classes, 1.0 + (method == "student"), number)
        stage, level = ("distill_student", "L2") if method == "student" else ("train_teacher", "")
        stored.network(stage, method, "d", logits[method, seed], seed=seed, level=level)
    stored.network("distill_student", "student", "d", logits["individual", 0], level="L2", variant="weight=1")
    return stored, logits


def slow_scores(labels: np.ndarray, logits: np.ndarray) -> list[float]:
    scores = []
    for number in range(logits.shape[1]):
        if labels.ndim == 2:
            there = labels[:, number].sum()
            scores.append(100 * average_precision_score(labels[:, number], logits[:, number]) if there else np.nan)
            continue
        own = [row for row, label in enumerate(labels) if label == number]
        right = [row for row in own if max(range(logits.shape[1]), key=lambda each: logits[row, each]) == number]
        scores.append(100 * len(right) / len(own) if own else np.nan)
    return scores


@pytest.mark.parametrize("task", ["single_label", "multi_label"])
def test_per_class__recall_or_average_precision_and_what_students_gain(tmp_path: Path, task: str) -> None:
    stored, logits = two_methods(tmp_path, task)
    labels = stored.labels["d"]
    table = per_class(stored.run())
    assert list(table.columns) == [
        *("experiment", "dataset", "method", "level"),
        *("class", "metric", "samples", "n_seeds", "mean", "std", "difference"),
    ]
    assert set(table["metric"]) == {"recall" if task == "single_label" else "AP"}
    assert set(table["n_seeds"]) == {2}
    slow = {place: np.array(slow_scores(labels, each)) for place, each in logits.items()}
    for method in ("individual", "student"):
        lines = table[table["method"] == method].set_index("class").loc[list(stored.classes["d"])]
        values = np.stack([slow[method, seed] for seed in (0, 1)])
        np.testing.assert_allclose(lines["mean"], values.mean(axis=0), atol=1e-3)
        np.testing.assert_allclose(lines["std"], values.std(axis=0, ddof=1), atol=1e-3)
        differences = np.stack([slow[method, seed] - slow["individual", seed] for seed in (0, 1)]).mean(axis=0)
        expected = differences if method == "student" else np.full(5, np.nan)
        np.testing.assert_allclose(lines["difference"], expected, atol=1e-3)
        counted = [
            int((labels == number).sum() if labels.ndim == 1 else labels[:, number].sum()) for number in range(5)
        ]
        assert lines["samples"].tolist() == counted
        assert counted[-1] == 0


@pytest.mark.parametrize("task", ["single_label", "multi_label"])
def test_per_class_report__csv_has_all_and_people_what_there_are_samples_of(tmp_path: Path, task: str) -> None:
    texts = Report().texts(two_methods(tmp_path, task)[0].run())
    assert len(pd.read_csv(io.StringIO(texts["per_class.csv"]))) == 2 * 5
    short = texts["per_class.md"]
    assert short.startswith("test, each class in percent, mean ± std over seeds (points over the individual teacher)")
    assert f"## d, e ({'recall' if task == 'single_label' else 'AP'})" in short
    assert "Without samples in test, and left out: 1 of 5 classes." in short
    assert "| class | samples | individual | student L2 |" in short
    assert "| class0 | " in short
    assert "class4" not in short
    assert "class4" not in texts["per_class.html"]
    assert "<h3>d, e (" in texts["per_class.html"]


def table_of(gains: list[float]) -> pd.DataFrame:
    """A student who gains so much at each class."""
    place = {"experiment": "e", "dataset": "d", "metric": "recall", "samples": 3, "n_seeds": 2, "std": np.nan}
    lines = []
    for number, gain in enumerate(gains):
        lines.append(
            place | {"method": "individual", "level": "", "class": f"c{number}", "mean": 50.0, "difference": np.nan}
        )
        lines.append(
            place | {"method": "kd", "level": "", "class": f"c{number}", "mean": 50.0 + gain, "difference": gain}
        )
        lines.append(
            place | {"method": "joint_teacher", "level": "L1", "class": f"c{number}", "mean": 90.0, "difference": -gain}
        )
    return pd.DataFrame(lines)


def test_readable_per_class__of_many_classes_those_that_students_gain_and_lose_most_at() -> None:
    gains = [float(number * 7 % 30 - 15) for number in range(30)]
    ((heading, said, short),) = readable_per_class(table_of(gains))
    assert heading == "d, e (recall)"
    assert said == ["The 10 classes that gain most and the 10 that gain least, of 30."]
    ranked = sorted(range(30), key=lambda number: -gains[number])
    assert short["class"].tolist() == [f"c{number}" for number in ranked[:10] + ranked[-10:]]
    assert short.iloc[0].tolist() == [f"c{ranked[0]}", 3, "50.0", "64.0 (+14.0)", "90.0 (-14.0)"]
    assert list(short.columns) == ["class", "samples", "individual", "kd", "joint_teacher L1"]
    ((_, said, short),) = readable_per_class(table_of(gains[:20]))
    assert not said
    assert short["class"].tolist() == [f"c{number}" for number in range(20)]


def test_ranked_classes__by_their_mean_where_there_are_no_students() -> None:
    table = table_of([1.0, 2.0]).assign(mean=[10.0, 0, 0, 70.0, 0, 0])
    assert ranked_classes(table[table["method"] == "individual"]) == ["c1", "c0"]
