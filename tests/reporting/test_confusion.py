"""Confusion matrices, counted one image at a time."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

from kd.common.errors import UserError
from kd.reporting.drawing import save
from kd.reporting.figures.confusion import (
    Report,
    confusion,
    confusion_figure,
    most_confused,
    rates_of,
    shown_part,
)
from tests.reporting.stored import Stored, random_labels, random_logits


@pytest.fixture(autouse=True)
def _close() -> None:
    plt.close("all")


def test_confusion__counts_each_image() -> None:
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 4, 60), rng.integers(0, 4, 60)
    slow = np.zeros((4, 4), dtype=int)
    for label, guess in zip(labels, predicted, strict=True):
        slow[label, guess] += 1
    found = confusion(labels, predicted, 4)
    assert found.tolist() == slow.tolist()
    assert rates_of(found).sum(axis=1) == pytest.approx(100)
    assert confusion(np.array([0]), np.array([1]), 3).shape == (3, 3)
    assert rates_of(np.array([[0, 0], [1, 3]])).tolist() == [[0, 0], [25, 75]]


def test_most_confused__by_what_is_taken_for_what_and_not_by_how_many_images_there_are() -> None:
    counts = np.array(
        [
            [900, 100, 0, 0],  # a tenth of many is wrong
            [0, 10, 0, 0],
            [0, 0, 1, 1],
            [0, 0, 0, 0],  # no image; and yet others are taken for it
        ]
    )
    assert most_confused([counts], 1) == [2]
    assert most_confused([counts], 2) == [0, 2]
    assert most_confused([counts], 9) == [0, 1, 2]
    swapped = np.array([[5, 0, 0, 0], [0, 0, 9, 0], [0, 9, 0, 0], [0, 0, 0, 0]])
    assert most_confused([counts, swapped], 2) == [1, 2]


def test_shown_part__has_all_that_is_not_shown_in_a_last_column() -> None:
    rates = np.array([[70.0, 10, 20], [5, 90, 5], [0, 40, 60]])
    assert shown_part(rates, [0, 2]).tolist() == [[70, 20, 10], [0, 60, 40]]
    assert shown_part(rates, [0, 1, 2]).tolist() == rates.tolist()


def two_methods(folder: Path) -> Stored:
    """Of two seeds; the student at two levels."""
    stored = Stored(folder)
    labels = random_labels(60, 5, "single_label")
    stored.dataset("d", labels, 5)
    stored.dataset("scenes", random_labels(10, 3, "multi_label"), 3)
    for seed in (0, 1):
        for number, (method, level) in enumerate([("individual", ""), ("student", "L1"), ("student", "L2")]):
            logits = random_logits(labels, 5, 1.5, 10 * seed + number)
            stored.network("s", method, "d", logits, seed=seed, level=level)
    stored.network("s", "student", "d", random_logits(labels, 5, 0.0), level="L2", variant="weight=1")
    stored.network("s", "individual", "scenes", random_logits(stored.labels["scenes"], 3, 1.0))
    return stored


def test_confusion_figure__of_all_seeds_together(tmp_path: Path) -> None:
    stored = two_methods(tmp_path)
    report = Report(dataset="d", methods=["individual", "student L2"], classes=3)
    report.check(stored.run())
    assert len(report.reads(stored.run())) == 1 + 2 * 2
    figure = report.draw(stored.run())
    individual, student, _ = figure.axes
    assert [axis.get_title() for axis in (individual, student)] == ["individual", "student L2"]
    labels = stored.labels["d"]
    rates = []
    for number in (0, 2):
        counts = np.zeros((5, 5))
        for seed in (0, 1):
            for label, logits in zip(labels, random_logits(labels, 5, 1.5, 10 * seed + number), strict=True):
                counts[label, logits.argmax()] += 1
        rates.append(100 * counts / counts.sum(axis=1, keepdims=True))
    wrong = sum(rates) * (1 - np.eye(5))
    chosen = sorted(np.argsort(-(wrong.sum(axis=0) + wrong.sum(axis=1)))[:3].tolist())
    assert [label.get_text() for label in individual.get_yticklabels()] == [f"class{number}" for number in chosen]
    assert [label.get_text() for label in student.get_xticklabels()][-1] == "all others"
    for axis, rate in zip((individual, student), rates, strict=True):
        shown = axis.images[0].get_array()
        assert shown is not None
        np.testing.assert_allclose(np.asarray(shown)[:, :3], rate[np.ix_(chosen, chosen)])
        np.testing.assert_allclose(np.asarray(shown).sum(axis=1), 100)
        assert len(axis.texts) == 3 * 4
    save(figure, tmp_path / "confusion.png")
    assert (tmp_path / "confusion.png").stat().st_size > 1000


def test_confusion_figure__numbers_stand_in_cells_that_are_large_enough() -> None:
    rates = np.full((13, 13), 100 / 13)
    figure = confusion_figure({"kd": rates}, [f"c{number}" for number in range(13)], "title")
    assert not figure.axes[0].texts


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataset": "dogs"}, r"^dataset: 'dogs', expected one of d, scenes"),
        (
            {"dataset": "scenes", "methods": ["individual"]},
            r"^dataset: 'scenes' is multi_label, expected single_label: a sample is taken for one class",
        ),
        (
            {"dataset": "d"},
            r"^methods: 'student' is a method of several levels; expected some of student L1, student L2",
        ),
        (
            {"dataset": "d", "methods": ["kd"]},
            r"^methods: 'kd' is no method of this dataset; expected some of individual, student L1, student L2",
        ),
        ({"dataset": "d", "experiment": "x"}, r"^experiment: 'x' has no row for dataset 'd'; those that have one: e"),
    ],
)
def test_confusion__options_that_do_not_fit(tmp_path: Path, options: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Report.model_validate(options).check(two_methods(tmp_path).run())
