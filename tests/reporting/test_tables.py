"""Tables against numbers worked out by hand."""

from __future__ import annotations

import math
import re

import pandas as pd
import pytest

from kd.reporting.layout import html_table, literal, markdown, readable
from kd.reporting.statistics import (
    METHOD_ORDER,
    SUMMARY_COLUMNS,
    headline,
    measurements,
    method_order,
    option_and_value,
    primary_metrics,
    summary,
)
from tests.reporting.results import Results, multi_label, single_label

VALUES = {
    ("individual", "", 0): 60.0,
    ("individual", "", 1): 62.0,
    ("individual", "", 2): 64.0,
    ("student", "L2", 0): 66.0,
    ("student", "L2", 1): 65.0,
    ("student", "L2", 2): 70.0,
}


@pytest.fixture
def table() -> pd.DataFrame:
    results = Results()
    for (method, level, seed), value in VALUES.items():
        metrics = single_label("d", value) + single_label("another", value + 50)
        results.add(method, metrics, level=level, seed=seed)
    measured = measurements(results.run())
    assert len(measured) == len(VALUES) * 8  # the other dataset's metrics are not this row's
    return summary(measured, ["d"])


def line(table: pd.DataFrame, **place: str) -> pd.Series:
    """The one line of that place."""
    chosen = table[(table[list(place)] == pd.Series(place)).all(axis=1)]
    assert len(chosen) == 1
    return chosen.iloc[0]


def test_summary__mean_std_gain(table: pd.DataFrame) -> None:
    assert tuple(table.columns) == SUMMARY_COLUMNS
    student = line(table, method="student", metric="acc@1", selection="last")
    assert student["n_seeds"] == 3
    assert student["mean"] == pytest.approx(67.0)
    assert student["std"] == pytest.approx(math.sqrt((1 + 4 + 9) / 2), abs=1e-3)
    gains = [6.0, 3.0, 6.0]
    mean = sum(gains) / 3
    error = math.sqrt(sum((gain - mean) ** 2 for gain in gains) / 2 / 3)
    assert student["gain"] == pytest.approx(mean, abs=1e-3)
    assert student["gain_se"] == pytest.approx(error, abs=1e-3)
    individual = table[table["method"] == "individual"]
    assert individual["gain"].isna().all()
    assert table["method"].iloc[0] == "individual"


def test_summary__gains_are_over_vanilla_where_the_experiment_has_it() -> None:
    results = Results()
    for experiment, methods in (("with", ("individual", "vanilla", "l2d")), ("without", ("individual", "l2d"))):
        for seed in (0, 1):
            for method, value in zip(methods, (70.0, 60.0, 64.0), strict=False):
                results.add(method, single_label("d", value + seed), experiment=experiment, seed=seed)
    table = summary(measurements(results.run()), ["d"])
    gains = headline(table, "last")[["experiment", "method", "gain"]]
    found = {(experiment, method): gain for experiment, method, gain in gains.itertuples(index=False)}
    assert found["with", "l2d"] == 4
    assert found["with", "individual"] == 10
    assert found["without", "l2d"] == -10
    assert math.isnan(found["with", "vanilla"])
    assert math.isnan(found["without", "individual"])


def test_summary__keeps_the_students_of_a_sweep_apart() -> None:
    results = Results()
    for variant, value in (("", 64.0), ("weight=100", 60.0), ("weight=5", 62.0), ("weight=20", 66.0)):
        results.add("l2d", single_label("d", value), variant=variant)
    results.add("vanilla", single_label("d", 61.0))
    results.add("vanilla", single_label("d", 1.0), variant="lr=1")
    table = summary(measurements(results.run()), ["d"])
    acc = table[(table["metric"] == "acc@1") & (table["selection"] == "last")]
    assert acc["variant"].tolist() == ["", "lr=1", "", "weight=5", "weight=20", "weight=100"]
    assert line(acc, variant="weight=20")["gain"] == 5
    assert line(acc, variant="lr=1")["gain"] == -60
    assert readable(table, "last")["d"].tolist() == ["61.0", "64.0 (+3.0)"]


def test_summary__orders_rows_by_what_they_are() -> None:
    methods = ["zebra", "joint_l2d", "joint_mld", "student", "l2d", "mld", "kd", "aardvark", "vanilla", "individual"]
    results = Results()
    for method in methods:
        results.add(method, single_label("d", 1.0))
    table = readable(summary(measurements(results.run()), ["d"]), "last")
    known = ["individual", "vanilla", "kd", "mld", "l2d", "student", "joint_mld", "joint_l2d"]
    assert table["method"].tolist() == [*known, "aardvark", "zebra"]
    assert sorted(METHOD_ORDER, key=method_order) == list(METHOD_ORDER)


@pytest.mark.parametrize(
    ("variant", "expected"),
    [("mld_weight=1e-3", ("mld_weight", 0.001)), ("warmup=20", ("warmup", 20)), ("", ("", 0))],
)
def test_option_and_value(variant: str, expected: tuple[str, float]) -> None:
    assert option_and_value(variant) == expected


def test_readable__one_line_per_row(table: pd.DataFrame) -> None:
    short = readable(table, "best_val")
    assert short.to_dict("records") == [
        {"experiment": "e", "method": "individual", "level": "", "d": "62.0 ± 2.0"},
        {"experiment": "e", "method": "student", "level": "L2", "d": "67.0 ± 2.6 (+5.0)"},
    ]
    assert markdown(short).splitlines()[1] == "| --- | --- | --- | --- |"


def test_readable__the_header_says_which_metric_unless_it_is_accuracy() -> None:
    results = Results()
    results.add("individual", single_label("d", 50.0))
    results.add("individual", multi_label("scenes", 80.0), dataset="scenes")
    results.add("l2d", multi_label("scenes", 81.5), dataset="scenes")
    table = summary(measurements(results.run("d", "scenes")), ["d", "scenes"])
    assert primary_metrics(table) == {"d": "acc@1", "scenes": "mAP"}
    assert readable(table, "best_val").to_dict("records") == [
        {"experiment": "e", "method": "individual", "level": "", "d": "50.0", "scenes (mAP)": "80.0"},
        {"experiment": "e", "method": "l2d", "level": "", "d": "", "scenes (mAP)": "81.5 (+1.5)"},
    ]


def test_measurements__are_of_networks_not_of_classes() -> None:
    results = Results()
    results.add("individual", multi_label("d", 80.0))
    measured = measurements(results.run())
    assert "AP" not in set(measured["metric"])
    assert len(measured) == 2 * 6


ODD = ["a|b", "<b>", "a_b", "_x_", "*", "$1_to_$5", "&amp;", "[x](y)", "`", "\\", "~~x~~"]


def test_markdown__names_are_no_markup() -> None:
    lines = markdown(pd.DataFrame({"a|b": ["x"], "c\nd": ["y \r\n z"]})).splitlines()
    assert lines == ["| a\\|b | c d |", "| --- | --- |", "| x | y z |"]
    assert markdown(pd.DataFrame({"name": ["single_dataset_kd", "80.0 ± 1.0 (+0.5)"]})).count("\\") == 0
    for name in ODD:
        shown = literal(name)
        assert re.sub(r"\\(.)", r"\1", shown) == name  # as Markdown shows it
        assert not re.search(r"(?<!\\)[<*`|\[~$&]", shown.replace("\\\\", ""))
    assert literal("_x_") == r"\_x\_"


def test_html_table__names_are_no_markup_and_are_not_cut() -> None:
    long = "what differs " * 40
    page = html_table(pd.DataFrame({"<i>": ["<b>&amp;", long, None]}))
    assert all(text in page for text in ("&lt;i&gt;", "&lt;b&gt;&amp;amp;", long.strip(), "<td></td>"))
