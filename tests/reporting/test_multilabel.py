"""Tables of multi-label datasets."""

from __future__ import annotations

import pandas as pd
import pytest

from kd.reporting.layout import metrics_table
from kd.reporting.statistics import measurements, metrics_side_by_side, summary
from kd.training.metrics import MULTI_LABEL_METRICS
from tests.reporting.results import Results, multi_label, single_label


@pytest.fixture
def results() -> Results:
    """Three methods over two seeds, a sweep, and a dataset that is not multi-label."""
    made = Results()
    for seed in (0, 1):
        for method, level, value in (("joint_l2d", "L2", 84.0), ("l2d", "", 82.0), ("vanilla", "", 80.0)):
            made.add(method, multi_label("d", value + seed), level=level, seed=seed)
        made.add("l2d", multi_label("d", 10.0), variant="mld_weight=1", seed=seed)
        made.add("individual", single_label("digits", 90.0), dataset="digits", seed=seed)
    return made


@pytest.fixture
def wide(results: Results) -> pd.DataFrame:
    table = summary(measurements(results.run("d", "digits")), ["d", "digits"])
    return metrics_side_by_side(table, "last", "multi_label", MULTI_LABEL_METRICS)


def test_metrics_side_by_side__a_line_a_method(wide: pd.DataFrame) -> None:
    assert wide["method"].tolist() == ["vanilla", "l2d", "joint_l2d"]
    assert set(wide["dataset"]) == {"d"}
    assert wide["n_seeds"].tolist() == [2, 2, 2]
    assert wide["mAP"].tolist() == [80.5, 82.5, 84.5]
    assert wide["OF1@k"].tolist() == [79.5, 81.5, 83.5]
    assert wide["CF1_std"].tolist() == pytest.approx([0.707] * 3)


def test_metrics_table__mean_and_std_of_each_metric(results: Results) -> None:
    files = metrics_table("multilabel", results.run("d", "digits"), "multi_label", MULTI_LABEL_METRICS)
    assert files["multilabel.md"].splitlines()[-1].split(" | ") == [
        *("| d", "e", "joint_l2d", "L2"),
        *("84.50 ± 0.71", "83.50 ± 0.71", "82.50 ± 0.71", "81.50 ± 0.71", "80.50 ± 0.71 |"),
    ]
    files = metrics_table("metrics", results.run("d", "digits"), "single_label", ["acc@1", "mAP"])
    assert files["metrics.md"].splitlines()[-1] == "| digits | e | individual |  | 90.00 ± 0.00 | 90.00 ± 0.00 |"
