"""Bootstrap intervals against slow loops, scikit-learn and scipy."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from sklearn.metrics import average_precision_score

from kd.data.options import Task
from kd.reporting.tables import bootstrap as module
from kd.reporting.tables.bootstrap import (
    RESAMPLES,
    SEED,
    Report,
    average_precision,
    bootstrap,
    contributions,
    interval,
)
from kd.training.metrics import PRIMARY, mean_average_precision, primary
from kd.training.predictions import Predictions
from tests.reporting.stored import Stored, random_labels, random_logits


def predictions(labels: np.ndarray, logits: np.ndarray) -> Predictions:
    return Predictions(np.arange(len(labels)), labels, logits)


def draws(images: int) -> np.ndarray:
    """The images of each resample, drawn at once."""
    return np.random.Generator(np.random.Philox(SEED)).integers(0, images, (RESAMPLES, images))


def test_interval__is_that_of_a_slow_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=(30, 3))
    resampled = np.array([values[rows].mean(axis=0) for rows in draws(30)])
    expected = np.stack([np.percentile(resampled, 2.5, axis=0), np.percentile(resampled, 97.5, axis=0)], axis=1)
    for block in (1 << 21, 7 * 30):  # also where a few resamples are drawn at a time
        monkeypatch.setattr(module, "BLOCK", block)
        np.testing.assert_allclose(interval(values), expected, rtol=1e-9)


def test_interval__is_that_of_scipy_up_to_chance() -> None:
    values = np.random.default_rng(1).choice([-100.0, 0.0, 100.0], size=(400, 1), p=[0.1, 0.7, 0.2])
    theirs = stats.bootstrap(
        (values[:, 0],), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    (low, high), width = interval(values)[0], theirs.high - theirs.low
    assert low == pytest.approx(theirs.low, abs=0.06 * width)
    assert high == pytest.approx(theirs.high, abs=0.06 * width)


@pytest.mark.parametrize("task", ["single_label", "multi_label"])
def test_contributions__their_mean_is_the_metric(task: Task) -> None:
    labels = random_labels(80, 5, task)
    logits = random_logits(labels, 5, 1.0)
    found = contributions(predictions(labels, logits))
    assert found.shape == (80,)
    assert found.mean() == pytest.approx(primary(task, torch.from_numpy(logits), torch.from_numpy(labels)), rel=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_average_precision__and_its_derivative_by_the_weight_of_each_image(*, ties: bool) -> None:
    rng = np.random.default_rng(3)
    positive = rng.random(40) < 0.3
    scores = (positive + rng.normal(size=40)).astype(np.float32)
    if ties:
        scores = np.round(scores).astype(np.float32)
        assert len(np.unique(scores)) < 10
    found, derivative = average_precision(scores, positive)
    assert found == pytest.approx(average_precision_score(positive, scores))
    assert derivative.sum() == pytest.approx(0, abs=1e-12)
    step = 1e-5
    for image in range(40):
        sides = []
        for sign in (1, -1):
            weights = np.ones(40)
            weights[image] += sign * step
            sides.append(average_precision_score(positive, scores, sample_weight=weights))
        assert derivative[image] == pytest.approx((sides[0] - sides[1]) / (2 * step), abs=1e-7)


def test_contributions__intervals_of_map_are_nearly_those_of_ranking_anew() -> None:
    """To first order: the ends differ by a tenth of the width at most, the width itself by less."""
    labels = random_labels(300, 4, "multi_label")
    both = [random_logits(labels, 4, skill, seed) for seed, skill in ((0, 1.0), (1, 1.6))]
    theirs, ours = (contributions(predictions(labels, logits)) for logits in both)
    ((low, high),) = interval((ours - theirs)[:, None])
    gains = []
    for rows in draws(300)[:1000]:
        resampled = torch.from_numpy(labels[rows])
        means = [mean_average_precision(torch.from_numpy(logits[rows]), resampled) for logits in both]
        gains.append(means[1] - means[0])
    slow_low, slow_high = np.percentile(gains, [2.5, 97.5])
    width = slow_high - slow_low
    assert high - low == pytest.approx(width, rel=0.08)
    assert low == pytest.approx(slow_low, abs=0.1 * width)
    assert high == pytest.approx(slow_high, abs=0.1 * width)


def run_of(folder: Path, task: Task, *, vanilla: bool) -> Stored:
    stored = Stored(folder)
    labels = random_labels(70, 4, task)
    stored.dataset("d", labels, 4)
    methods = [("individual", "", 1.0), ("student", "L2", 2.0)] + [("vanilla", "", 1.2)] * vanilla
    for seed in (0, 1):
        for number, (method, level, skill) in enumerate(methods):
            logits = random_logits(labels, 4, skill, 10 * seed + number)
            stored.network("s", method, "d", logits, seed=seed, level=level)
    stored.network("s", "student", "d", random_logits(labels, 4, 9.0), level="L2", variant="weight=1")
    stored.network("s", "student", "d", random_logits(labels, 4, 9.0), level="L2", seed=2)  # of no reference
    return stored


@pytest.mark.parametrize("vanilla", [False, True])
@pytest.mark.parametrize("task", ["single_label", "multi_label"])
def test_bootstrap__of_the_mean_gain_over_the_reference_of_the_same_seed(
    tmp_path: Path, task: Task, *, vanilla: bool
) -> None:
    stored = run_of(tmp_path, task, vanilla=vanilla)
    table = bootstrap(stored.run())
    assert table["method"].tolist() == ["individual", "student"] if vanilla else ["student"]
    line = table.set_index("method").loc["student"]
    reference = "vanilla" if vanilla else "individual"
    assert (line["reference"], line["metric"], line["samples"]) == (reference, PRIMARY[task], 70)
    assert line["n_seeds"] == 2

    def of(method: str, seed: int) -> np.ndarray:
        (job,) = (row.job for row in stored.rows if (row.method, row.seed, row.variant) == (method, seed, ""))
        with np.load(job.directory / "predictions-d.npz") as arrays:
            return contributions(predictions(arrays["labels"], arrays["logits_last"]))

    gains = [(of("student", seed) - of(reference, seed)).mean() for seed in (0, 1)]
    assert line["gain"] == pytest.approx(np.mean(gains))
    assert line["gain_std"] == pytest.approx(np.std(gains, ddof=1))
    by_image = np.mean([of("student", seed) - of(reference, seed) for seed in (0, 1)], axis=0)
    resampled = [by_image[rows].mean() for rows in draws(70)]
    assert [line["low"], line["high"]] == pytest.approx(np.percentile(resampled, [2.5, 97.5]).tolist())


def test_bootstrap__where_nothing_can_be_compared(tmp_path: Path) -> None:
    stored = Stored(tmp_path)
    labels = random_labels(10, 3, "single_label")
    stored.dataset("d", labels, 3)
    stored.network("s", "student", "d", random_logits(labels, 3, 1.0))
    texts = Report().texts(stored.run())
    assert texts["bootstrap.csv"].count("\n") == 1
    stored.network("s", "individual", "d", random_logits(labels, 3, 1.0, seed=5))
    table = pd.read_csv(io.StringIO(Report().texts(stored.run())["bootstrap.csv"]))
    assert table["gain_std"].isna().all()  # of one seed
    low, gain, high = table[["low", "gain", "high"]].to_numpy(float)[0]
    assert low <= gain <= high


def test_bootstrap_report__each_reference_is_that_of_its_experiment(tmp_path: Path) -> None:
    """One network may be a row of several experiments."""
    stored = run_of(tmp_path, "single_label", vanilla=False)
    stored.rows += [replace(row, experiment="other") for row in stored.rows if row.method == "individual"]
    labels = stored.labels["d"]
    stored.network("s", "vanilla", "d", random_logits(labels, 4, 3.0, 50), experiment="other")
    table = bootstrap(stored.run())
    assert table[["experiment", "method", "reference", "n_seeds"]].to_numpy().tolist() == [
        ["e", "student", "individual", 2],
        ["other", "individual", "vanilla", 1],
    ]
