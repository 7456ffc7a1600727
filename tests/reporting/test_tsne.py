"""How far apart classes are, and the figure that shows it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

from kd.artefacts.manifest import read_manifest
from kd.common.errors import UserError
from kd.data.packed import open_split
from kd.planning.plan import Plan
from kd.reporting.base import Run
from kd.reporting.drawing import save
from kd.reporting.figures.tsne import Report, chosen_rows, separation, vectors_of


def test_separation__is_as_written_out() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([3, 5, 9], [12, 9, 14])
    vectors = rng.normal(size=(35, 4)) + labels[:, None] / 3
    right, silhouettes = 0, []
    for row, label in enumerate(labels):
        distances = np.sqrt(((vectors - vectors[row]) ** 2).sum(axis=1))
        others = [each for each in np.argsort(distances) if each != row]
        votes = np.bincount(labels[others[:5]])
        right += int(votes.argmax() == label)
        means = {each: distances[(labels == each) & (np.arange(35) != row)].mean() for each in (3, 5, 9)}
        own, other = means.pop(label), min(means.values())
        silhouettes.append((other - own) / max(other, own))
    found = separation(vectors, labels, neighbours=5)
    assert found.neighbours == pytest.approx(100 * right / 35)
    assert found.silhouette == pytest.approx(np.mean(silhouettes))


@pytest.fixture(scope="module")
def run(finished: Plan) -> Run:
    return replace(finished.run(), read=read_manifest)


def test_report__a_panel_for_each_network_with_its_numbers(run: Run, tmp_path: Path) -> None:
    report = Report(dataset="digits", methods=["individual", "student L2"], classes=4, neighbours=2)
    report.check(run)
    figure = report.draw(run)
    assert [axis.get_title() for axis in figure.axes] == ["individual", "student L2"]
    split = open_split(run.dataset("digits").directory, "test")
    chosen = report.chosen(split.info.classes, split.labels)
    rows = chosen_rows(split.labels, chosen, 2000)
    assert set(split.labels[rows]) == set(chosen)
    vectors = vectors_of(report.networks(run)["individual"].directory, split, rows)
    found = separation(vectors, split.labels[rows], 2)
    said = figure.axes[0].get_xlabel()
    assert said == f"2-NN accuracy {found.neighbours:.1f} %, silhouette {found.silhouette:.3f}"
    shown = [len(np.asarray(points.get_offsets())) for points in figure.axes[0].collections]
    assert sum(shown) == len(rows)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [split.info.classes[each] for each in chosen]
    save(figure, tmp_path / "tsne.svg")
    plt.close("all")


def test_report__classes_by_number_or_by_name() -> None:
    names, labels = ("a", "b", "c", "d"), np.array([3, 3, 1, 1, 0, 3])
    assert Report(dataset="x", classes=2).chosen(names, labels) == [1, 3]
    assert Report(dataset="x", classes=3).chosen(names, labels) == [0, 1, 3]
    assert Report(dataset="x", classes=["d", "a"]).chosen(names, labels) == [3, 0]
    with pytest.raises(UserError, match=r"reports.tsne.classes: 'e' is no class of x"):
        Report(dataset="x", classes=["d", "e"]).chosen(names, labels)
    assert chosen_rows(labels, [1, 3], most=3).tolist() == [0, 1, 2]


def test_report__mistakes(run: Run) -> None:
    with pytest.raises(UserError, match=r"^methods: 'teacher' is no method .*individual"):
        Report(dataset="digits", methods=["teacher"]).check(run)
    with pytest.raises(UserError, match=r"^dataset: 'digit', expected one of digits, other"):
        Report(dataset="digit").check(run)
    with pytest.raises(UserError, match=r"reports.tsne.neighbours: 50, expected fewer than the \d+ test samples"):
        Report(dataset="digits", methods=["individual"], neighbours=50).draw(run)
