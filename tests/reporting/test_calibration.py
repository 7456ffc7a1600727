"""Calibration against loops over probabilities, and reliability diagrams."""

from __future__ import annotations

import io
import math
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from kd.data.options import Task
from kd.reporting import calibration as module
from kd.reporting.calibration import BINS, calibration, reliability
from kd.reporting.drawing import save
from kd.reporting.figures.calibration import Report as Diagram
from kd.reporting.tables.calibration import Report
from kd.training.predictions import Predictions
from tests.reporting.stored import Stored, random_labels, random_logits


def predictions(labels: np.ndarray, logits: np.ndarray) -> Predictions:
    return Predictions(np.arange(len(labels)), labels, logits)


def slow(labels: np.ndarray, logits: np.ndarray) -> tuple[float, float, list[list[tuple[float, bool]]]]:
    """ECE in percent, NLL, and (probability, whether it is so) of each bin, by loops in Python's own numbers."""
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(BINS)]
    losses = []
    for row, values in enumerate(logits.tolist()):
        if labels.ndim == 2:
            probabilities = [1 / (1 + math.exp(-value)) for value in values]
            pairs = [(each, bool(labels[row, number])) for number, each in enumerate(probabilities)]
            losses += [-math.log(each if so else 1 - each) for each, so in pairs]
        else:
            total = sum(math.exp(value) for value in values)
            probabilities = [math.exp(value) / total for value in values]
            first = probabilities.index(max(probabilities))
            pairs = [(probabilities[first], first == labels[row])]
            losses.append(-math.log(probabilities[labels[row]]))
        for probability, so in pairs:
            place = next(each for each in range(BINS) if probability <= (each + 1) / BINS)
            bins[place].append((probability, so))
    count = sum(map(len, bins))
    error = 0.0
    for each in filter(None, bins):
        accuracy = sum(so for _, so in each) / len(each)
        confidence = sum(probability for probability, _ in each) / len(each)
        error += len(each) / count * abs(accuracy - confidence)
    return 100 * error, sum(losses) / len(losses), bins


@pytest.mark.parametrize("task", ["single_label", "multi_label"])
@pytest.mark.parametrize("block", [1 << 20, 50])
def test_calibration__is_that_of_a_slow_loop(monkeypatch: pytest.MonkeyPatch, task: Task, block: int) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    labels = random_labels(200, 6, task)
    logits = 2 * random_logits(labels, 6, 1.0)
    found = calibration(predictions(labels, logits))
    error, loss, bins = slow(labels, logits)
    assert found.ece == pytest.approx(error, rel=1e-9)
    assert found.nll == pytest.approx(loss, rel=1e-9)
    pairs = [pair for each in bins for pair in each]
    assert found.confidence == pytest.approx(100 * np.mean([probability for probability, _ in pairs]))
    assert found.accuracy == pytest.approx(100 * np.mean([so for _, so in pairs]))
    confidence, right = reliability(found.bins)
    there = [each for each in bins if each]
    assert confidence.tolist() == pytest.approx([100 * np.mean([pair[0] for pair in each]) for each in there])
    assert right.tolist() == pytest.approx([100 * np.mean([pair[1] for pair in each]) for each in there])


def test_calibration__at_the_edges_and_of_large_logits() -> None:
    sure = np.array([[2000.0, 0.0], [0.0, -3000.0], [-1000.0, 1000.0]], dtype=np.float32)
    labels = np.array([0, 0, 1])
    found = calibration(predictions(labels, sure))
    assert (found.ece, found.nll, found.confidence) == (0, 0, 100)
    wrong = calibration(predictions(1 - labels, sure))
    assert wrong.ece == 100
    assert wrong.nll == pytest.approx((2000 + 3000 + 2000) / 3)
    even = calibration(predictions(np.array([0, 1]), np.zeros((2, 3), dtype=np.float32)))
    assert np.flatnonzero(even.bins[0]).tolist() == [4]  # 1/3 is the upper edge of the fifth bin
    several = calibration(predictions(labels[:, None] == np.arange(2), sure))
    assert np.flatnonzero(several.bins[0]).tolist() == [0, 7, 14]  # probabilities 0, 1/2 and 1


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    """Two datasets, two seeds; and a joint teacher, which the diagrams leave out."""
    made = Stored(tmp_path)
    for name, task in (("digits", "single_label"), ("scenes", "multi_label")):
        labels = random_labels(60, 4, "single_label" if task == "single_label" else "multi_label")
        made.dataset(name, labels, 4)
        for seed in (0, 1):
            for number, (stage, method, level) in enumerate(
                [
                    ("train_teacher", "individual", ""),
                    ("train_joint_teacher", "joint_teacher", "L2"),
                    ("distill_student", "student", "L2"),
                ]
            ):
                logits = random_logits(labels, 4, 2.0, 10 * seed + number)
                made.network(stage, method, name, logits, seed=seed, level=level)
    return made


def test_calibration_table__mean_and_deviation_over_seeds(stored: Stored) -> None:
    texts = Report().texts(stored.run())
    table = pd.read_csv(io.StringIO(texts["calibration.csv"]), keep_default_na=False)
    assert table["method"].tolist() == ["individual", "joint_teacher", "student"] * 2
    assert table["dataset"].tolist() == ["digits"] * 3 + ["scenes"] * 3
    line = table.iloc[5]
    errors = [
        slow(stored.labels["scenes"], random_logits(stored.labels["scenes"], 4, 2.0, seed))[:2] for seed in (2, 12)
    ]
    for place, name in enumerate(("ece", "nll")):
        values = [each[place] for each in errors]
        assert line[name] == pytest.approx(np.mean(values), abs=1e-4)
        assert line[f"{name}_std"] == pytest.approx(np.std(values, ddof=1), abs=1e-4)
    assert f"{line['ece']:.2f} ± {line['ece_std']:.2f}" in texts["calibration.html"]


def test_calibration_figure__a_panel_per_dataset_before_and_after(stored: Stored, tmp_path: Path) -> None:
    plt.close("all")
    figure = Diagram().draw(stored.run())
    assert [axis.get_title() for axis in figure.axes] == ["digits", "scenes"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["individual", "student L2"]
    individual, student, diagonal = figure.axes[0].lines
    assert np.asarray(diagonal.get_xdata()).tolist() == [0, 100]
    labels = stored.labels["digits"]
    bins = [slow(labels, random_logits(labels, 4, 2.0, seed))[2] for seed in (2, 12)]
    both = [first + second for first, second in zip(*bins, strict=True) if first + second]
    expected = [100 * np.mean([so for _, so in each]) for each in both]
    np.testing.assert_allclose(np.asarray(student.get_ydata(), dtype=float), expected)
    assert individual.get_color() != student.get_color()
    save(figure, tmp_path / "calibration.svg")
    jobs = {job.stage for job in Diagram().reads(stored.run())}
    assert jobs == {"train_teacher", "distill_student"}
