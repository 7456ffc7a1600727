"""Figures show what the tables hold."""

from __future__ import annotations

import itertools
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from kd.artefacts.job import Job
from kd.common.errors import UserError
from kd.reporting.base import Row, Run
from kd.reporting.drawing import colour, save
from kd.reporting.figures import accuracy, cache, cost, number_of_datasets, sensitivity, training_curves
from kd.reporting.statistics import METHOD_ORDER, PLACE
from kd.reporting.tables.cache import COLUMNS
from tests.reporting.results import Results, multi_label, run_of, single_label


@pytest.fixture(autouse=True)
def _close() -> None:
    plt.close("all")


@pytest.fixture
def run() -> Run:
    """digits: single-label; scenes: multi-label, with sweeps of a weight and of the temperature."""
    results = Results()
    for seed in (0, 1):
        for method, value in (("individual", 80.0), ("student", 82.0)):
            level = "L2" if method == "student" else ""
            results.add(method, single_label("digits", value + seed), dataset="digits", level=level, seed=seed)
        scenes = [("vanilla", "", 60.0), ("l2d", "", 65.0), ("joint_l2d", "", 67.0)]
        scenes += [("l2d", f"mld_weight={weight}", 60 + np.log1p(weight)) for weight in (0, 1, 10, 100)]
        scenes += [("l2d", f"temperature={weight}", 60 + weight) for weight in (0.5, 1, 2)]
        for method, variant, value in scenes:
            results.add(method, multi_label("scenes", value + seed), dataset="scenes", variant=variant, seed=seed)
    return results.run("digits", "scenes")


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_colour__every_row_has_its_own() -> None:
    assert len({colour(method) for method in METHOD_ORDER}) == len(METHOD_ORDER)
    further = {colour("a method that nobody knows"), colour("another")}
    assert len(further) == 2
    assert not further & set(map(colour, METHOD_ORDER))


def test_accuracy_figure__a_panel_per_dataset_with_its_metric_and_without_sweeps(run: Run, tmp_path: Path) -> None:
    figure = accuracy.Report().draw(run)
    assert [axis.get_xlabel() for axis in figure.axes] == ["test acc@1 (%)", "test mAP (%)"]
    assert [len(axis.containers) for axis in figure.axes] == [2, 3]
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["individual", "student L2", "vanilla", "l2d", "joint l2d"]
    save(figure, tmp_path / "accuracy.svg")
    assert "student L2" in (tmp_path / "accuracy.svg").read_text()


def test_curves_figure__of_the_metric_that_the_history_has(tmp_path: Path) -> None:
    rows = []
    for dataset, metric in (("digits", "acc@1"), ("scenes", "mAP")):
        for seed, variant in ((0, ""), (1, ""), (0, "weight=1")):
            made = Job.make(tmp_path, "s", f"{dataset}{seed}{variant[:1]}", spec={}, code={}, upstream={})
            made.directory.mkdir(parents=True)
            history = pd.DataFrame({"epoch": [0, 1], "loss": [1, 0], f"val_{metric}": [10.0 + seed, 20.0 + seed]})
            history.to_csv(made.directory / "history.csv", index=False)
            rows.append(Row("e", dataset, "joint_l2d", "L2", seed, made, variant))
    figure = training_curves.Report().draw(run_of(rows, "digits", "scenes"))
    assert [axis.get_ylabel() for axis in figure.axes] == ["val acc@1 (%)", "val mAP (%)"]
    for axis in figure.axes:
        (line,) = axis.lines
        assert np.asarray(line.get_xdata()).tolist() == [1, 2]
        assert np.asarray(line.get_ydata()).tolist() == [10.5, 20.5]


def test_curves_figure__leaves_out_what_is_trained_for_several_datasets(tmp_path: Path) -> None:
    """A joint teacher of digits, single-label, and scenes, multi-label, has one curve, of the mean of both metrics."""
    rows = []
    for name, datasets, metric in (
        ("individual", ("digits",), "acc@1"),
        ("vanilla", ("scenes",), "mAP"),
        ("joint_teacher", ("digits", "scenes"), "score"),
        ("joint_baseline", ("digits", "scenes"), "score"),
    ):
        made = Job.make(tmp_path, "s", name, spec={}, code={}, upstream={})
        made.directory.mkdir(parents=True)
        pd.DataFrame({"epoch": [0], "loss": [1], f"val_{metric}": [10.0]}).to_csv(
            made.directory / "history.csv", index=False
        )
        rows += [Row("e", dataset, name, "", 0, made) for dataset in datasets]
    figure = training_curves.Report().draw(run_of(rows, "digits", "scenes"))
    assert [axis.get_title() for axis in figure.axes] == ["digits", "scenes"]
    assert legend(figure) == ["individual", "vanilla"]


def test_sensitivity_figure__a_panel_per_option(run: Run, tmp_path: Path) -> None:
    figure = sensitivity.Report().draw(run)
    weight, temperature = figure.axes
    assert [axis.get_xlabel() for axis in figure.axes] == ["mld weight", "temperature"]
    assert [axis.get_ylabel() for axis in figure.axes] == ["test mAP (%)"] * 2
    assert weight.get_xscale() == "symlog"
    assert temperature.get_xscale() == "linear"
    curve, vanilla = weight.lines
    assert np.asarray(curve.get_xdata()).tolist() == [0, 1, 10, 100]
    np.testing.assert_allclose(np.asarray(curve.get_ydata()), 60.5 + np.log1p([0, 1, 10, 100]), atol=1e-3)
    assert np.asarray(vanilla.get_ydata()).tolist() == [60.5, 60.5]
    assert [label.get_text() for label in weight.get_xticklabels()] == ["0", "1", "10", "100"]
    band = weight.collections[0].get_paths()[0].get_extents()
    assert band.height == pytest.approx(np.log1p(100) + 2 * np.sqrt(0.5), abs=1e-2)
    assert legend(figure) == ["l2d", "vanilla"]
    save(figure, tmp_path / "sensitivity.svg")


def test_sensitivity_figure__only_of_options_that_a_dataset_was_swept_over() -> None:
    results = Results()
    for dataset, options in (("digits", ("alpha", "beta")), ("letters", ("beta", "gamma"))):
        for option, value in itertools.product(options, (1, 2)):
            metrics = single_label(dataset, 50.0 + value)
            results.add("kd", metrics, dataset=dataset, variant=f"{option}={value}", experiment=dataset)
    figure = sensitivity.Report().draw(results.run("digits", "letters", selection="best_val"))
    shown = [(axis.get_title(), axis.get_xlabel()) for axis in figure.axes if axis.get_visible()]
    assert shown == [("digits", "alpha"), ("digits", "beta"), ("letters", "beta"), ("letters", "gamma")]
    assert legend(figure) == ["digits kd", "letters kd"]


def test_sensitivity_figure__vanilla_is_that_of_the_experiment_and_not_swept_itself() -> None:
    results = Results()
    for experiment, value in (("swept", 50.0), ("other", 40.0)):
        results.add("vanilla", single_label("d", value), experiment=experiment)
        results.add("vanilla", single_label("d", 1.0), experiment=experiment, variant="label_weight=2")
    for weight in (1, 2):
        results.add("kd", single_label("d", 50.0 + weight), experiment="swept", variant=f"alpha={weight}")
    figure = sensitivity.Report().draw(results.run())
    panels = {axis.get_xlabel(): axis for axis in figure.axes if axis.get_visible()}
    curve, vanilla = panels["alpha"].lines
    assert np.asarray(curve.get_ydata()).tolist() == [51, 52]
    assert np.asarray(vanilla.get_ydata()).tolist() == [50, 50]
    curves = [np.asarray(line.get_ydata()).tolist() for line in panels["label weight"].lines]
    assert sorted(curves) == [[1], [1], [40, 40], [50, 50]]


def test_cost_figure__is_drawn(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    costs = pd.DataFrame(
        [
            {"kind": "stage", "name": "train_teacher", "jobs": 2, "seconds": 4.0, "individual_trainings": 2.0},
            {"kind": "level", "name": "L1", "bytes": 1000, "bytes_per_sample": 10.0},
        ]
    )
    monkeypatch.setattr(cost, "cost", lambda _: costs)
    save(cost.Report().draw(run), tmp_path / "figures" / "cost.png")
    assert (tmp_path / "figures" / "cost.png").read_bytes()[:4] == b"\x89PNG"


def test_cache_figure__of_the_metric_of_each_dataset(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        ("e", dataset, method, level, views, "float16", 100.0, metric, 2, 80.0, 1.0)
        for dataset, metric in (("digits", "acc@1"), ("scenes", "mAP"))
        for method, level in (("student", "L2"), ("l2d", ""))
        for views in ("1", "live")
    ]
    table = pd.DataFrame(lines, columns=[*PLACE[:4], *COLUMNS])
    monkeypatch.setattr(cache, "cache_table", lambda *_: table)
    figure = cache.Report().draw(run)
    assert [axis.get_ylabel() for axis in figure.axes] == ["test acc@1 (%)", "test mAP (%)"]
    assert len(legend(figure)) == 4


def by_number() -> Run:
    """Two datasets; of the second, students of two teachers alone."""
    results = Results()
    for experiment, datasets in (("two", ("a", "b")), ("three", ("a",))):
        for dataset in datasets:
            for seed in (0, 1):
                at = {"dataset": dataset, "experiment": experiment, "seed": seed}
                results.add("individual", single_label(dataset, 70.0), **at)
                results.add("joint_teacher", single_label(dataset, 80.0 + len(experiment)), level="L2", **at)
                results.add("student", single_label(dataset, 75.0 + seed), level="L2", **at)
    return results.run("a", "b")


def test_number_of_datasets_figure__curves_begin_with_the_individual_teacher() -> None:
    report = number_of_datasets.Report(experiments={2: "two", 3: "three"})
    report.check(by_number())
    figure = report.draw(by_number())
    assert [axis.get_title() for axis in figure.axes] == ["a", "b"]
    assert legend(figure) == ["joint_teacher L2", "student L2"]
    (joint, student), (short, _) = ([each[0].get_xydata() for each in axis.containers] for axis in figure.axes)
    assert joint.tolist() == [[1, 70], [2, 83], [3, 85]]
    assert student.tolist() == [[1, 70], [2, 75.5], [3, 75.5]]
    assert short.tolist() == [[1, 70], [2, 83]]


def test_number_of_datasets_figure__names_an_experiment_without_joint_teachers() -> None:
    with pytest.raises(UserError, match=r"^experiments.4: 'four' has no joint teacher .*: two, three$"):
        number_of_datasets.Report(experiments={2: "two", 4: "four"}).check(by_number())
