"""The papers' numbers beside ours."""

from __future__ import annotations

import io
import math
import subprocess
import sys
from functools import partial
from typing import Any

import pandas as pd
import pytest
from pydantic import ValidationError

from kd.common.errors import UserError
from kd.reporting.base import Run
from kd.reporting.statistics import measurements, summary
from kd.reporting.tables.papers import COLUMNS, Comparison, Report, beside_paper, readable_beside_paper
from tests.conftest import ROOT
from tests.reporting.results import Results, multi_label, single_label

nan = math.nan
approx = partial(pytest.approx, nan_ok=True)
RESNETS = {"table": "S3", "dataset": "voc2007", "teacher": "resnet50", "student": "resnet18"}


@pytest.fixture
def table() -> pd.DataFrame:
    """Of two experiments; only one is to be compared."""
    results = Results()
    for seed in (0, 1):
        for method, level, value in (("vanilla", "", 60.0), ("l2d", "", 62.0), ("joint_l2d", "L2", 63.0)):
            results.add(method, multi_label("scenes", value + seed), dataset="scenes", level=level, seed=seed)
        results.add("l2d", multi_label("scenes", 1.0), dataset="scenes", variant="mld_weight=1", seed=seed)
    for method, level, value in (("individual", "", 70.0), ("single_dataset_kd", "L1", 71.0), ("student", "L2", 75.0)):
        results.add(method, single_label("caltech", value), dataset="caltech", level=level, experiment="mlfd")
    return summary(measurements(results.run("scenes", "caltech")), ["scenes", "caltech"])


def compared(table: pd.DataFrame, paper: str, where: dict[str, Any], experiment: str, dataset: str) -> pd.DataFrame:
    wanted = {"paper": paper, "where": where, "dataset": dataset, "differs": "other data"}
    return beside_paper(table, Comparison.model_validate(wanted), experiment, "last")


def pairs(found: pd.DataFrame) -> dict[tuple[str, str, str], list[Any]]:
    """Method, level and metric -> the paper's and ours."""
    columns = ["method", "level", "metric", "paper", "ours"]
    return {(method, level, metric): both for method, level, metric, *both in found[columns].to_numpy().tolist()}


def test_beside_paper__l2d(table: pd.DataFrame) -> None:
    found = compared(table, "l2d", RESNETS, experiment="e", dataset="scenes")
    assert tuple(found.columns) == COLUMNS
    assert set(found["differs"]) == {"other data"}
    both = pairs(found)
    assert len(both) == len(found)
    assert both["individual", "", "mAP"] == approx([86.73, nan])  # the paper's teacher
    assert both["vanilla", "", "mAP"] == approx([84.01, 60.5])
    assert both["l2d", "", "CF1@k"] == approx([82.11, 60.5])
    assert both["l2d", "", "CF1"] == approx([nan, 58.5])
    assert both["rkd", "", "mAP"] == approx([84.48, nan])
    assert both["joint_l2d", "L2", "mAP"] == approx([nan, 63.5])
    assert found["method"].drop_duplicates().tolist()[:3] == ["individual", "vanilla", "rkd"]
    assert set(found.loc[found["ours"].notna(), "n_seeds"]) == {2}


def test_beside_paper__mlfd_compares_rows_of_the_same_level(table: pd.DataFrame) -> None:
    where = {"table": "S1", "dataset": "caltech101", "n_datasets": [1, "4"]}
    both = pairs(compared(table, "mlfd", where, experiment="mlfd", dataset="caltech"))
    assert both["individual", "", "acc@1"] == approx([74.79, 70])
    assert both["student", "L2", "acc@1"] == approx([80.04, 75])
    assert both["single_dataset_kd", "L1", "acc@1"] == approx([nan, 71])
    assert math.isnan(both["joint_teacher", "L2", "acc@1"][1])


def test_beside_paper__a_line_without_a_level_stands_for_any(table: pd.DataFrame) -> None:
    where = {"table": "S2", "dataset": "tiny_imagenet", "method": ["individual_light", "kd_light_to_light"]}
    both = pairs(compared(table, "mlfd", where, experiment="mlfd", dataset="caltech"))
    assert ("single_dataset_kd", "", "acc@1") not in both
    assert both["single_dataset_kd", "L1", "acc@1"][0] > 0


def test_printed_numbers__imports_no_pandas() -> None:
    """The plan reads them."""
    code = "import kd.reporting.tables.papers, sys; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_readable_beside_paper__rows_by_metrics_and_nothing_where_there_is_nothing(table: pd.DataFrame) -> None:
    found_here = compared(table, "l2d", RESNETS, experiment="e", dataset="scenes")
    both = readable_beside_paper(found_here.assign(experiment="e", dataset="scenes"))
    metrics = ["mAP", "OF1@k", "CF1@k"]
    sides = [f"{metric} {side}" for metric in metrics for side in ("paper", "ours")]
    assert sorted(both.columns) == sorted(["method", "level", *sides, "gain", "differs"])
    assert both.columns[0] == "method"
    assert both.columns[-1] == "differs"
    found = {method: list(pair) for method, *pair in both[["method", "mAP paper", "mAP ours"]].itertuples(index=False)}
    assert found["vanilla"] == ["84.01", "60.50 ± 0.71"]
    assert found["joint_l2d"] == ["", "63.50 ± 0.71"]
    assert found["rkd"] == ["84.48", ""]
    assert both.set_index("method")["gain"]["l2d"] == "+2.00 ± 0.00"
    assert both.set_index("method")["gain"]["vanilla"] == ""
    assert not both["method"].duplicated().any()


@pytest.mark.parametrize(
    ("paper", "where", "message"),
    [
        ("l2d", {"tables": "S3"}, "^where: l2d.csv has no column 'tables', expected some of table, setting"),
        ("l2d", {"table": "S9"}, "^where.table: 'S9', expected some of 'S1', 'S2', 'S3', 'S4'"),
        ("l2d", {"table": ["S3", "S9"]}, "^where.table: 'S9', expected"),
        ("l2d", {"table": "S3"}, "^where: several numbers for individual mAP; .* experiment by teacher, student$"),
        ("mlfd", {"table": "S1", "dataset": "caltech101"}, "several numbers for student L2 acc@1"),
    ],
)
def test_beside_paper__says_what_is_wrong(table: pd.DataFrame, paper: str, where: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        compared(table, paper, where, experiment="e", dataset="scenes")


def test_comparison__is_with_a_known_paper() -> None:
    with pytest.raises(ValidationError, match=r"\npaper\n.* 'l2d' or 'mlfd'"):
        Comparison.model_validate({"paper": "l2e", "where": RESNETS, "dataset": "scenes", "differs": ""})


def of_datasets(numbers: dict[str, str]) -> Run:
    """Networks on three datasets of the paper, one of which has no student, and on one that it does not have."""
    results = Results()
    for experiment in numbers.values():
        for place, dataset in enumerate(("caltech101", "flowers102", "cub200", "ours")):
            for seed in (0, 1):
                at = {"dataset": dataset, "experiment": experiment, "seed": seed}
                results.add("individual", single_label(dataset, 70.0 + place), **at)
                if dataset != "cub200":
                    results.add("student", single_label(dataset, 75.0 + place + seed), level="L2", **at)
    return results.run("flowers102", "caltech101", "cub200", "ours")


def test_report__lays_datasets_side_by_side_and_experiments_of_one_title_below_each_other() -> None:
    numbers = {"2": "two", "4": "four"}
    given = [
        {
            "paper": "mlfd",
            "where": {"table": "S1", "n_datasets": [1, m]},
            "experiment": name,
            "title": "S1",
            "differs": "d",
        }
        for m, name in numbers.items()
    ]
    report, run = Report.model_validate(given), of_datasets(numbers)
    report.check(run)
    texts = report.texts(run)
    lines = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in texts["papers.md"].splitlines() if "|" in line
    ]
    rows = [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]
    assert texts["papers.md"].startswith("## S1\n")
    assert list(rows[0]) == [
        *("experiment", "method", "level"),
        *(
            f"{dataset} {what}"
            for dataset in ("flowers102", "caltech101", "cub200")
            for what in ("paper", "ours", "gain")
        ),
        "differs",
    ]
    assert [(row["experiment"], row["method"]) for row in rows] == [
        *(("", "individual"), ("two", "joint_teacher"), ("two", "student")),
        *(("four", "joint_teacher"), ("four", "student")),
    ]
    student = next(row for row in rows if (row["experiment"], row["method"]) == ("four", "student"))
    assert student["caltech101 paper"] == "80.04 / 92.45"
    assert student["caltech101 ours"] == "75.50 ± 0.71 / 75.50 ± 0.71"
    assert student["caltech101 gain"] == "+5.50 ± 0.50"
    assert student["cub200 paper"] == "59.29 / 83.29"
    assert student["cub200 ours"] == student["cub200 gain"] == ""
    whole = pd.read_csv(io.StringIO(texts["papers.csv"]))
    assert set(whole["dataset"]) == {"flowers102", "caltech101", "cub200"}
    assert "ours" not in texts["papers.csv"].replace(",ours,", "")


def test_report__of_datasets_that_the_paper_does_not_have() -> None:
    report = Report.model_validate([{"paper": "mlfd", "where": {"table": "S2"}, "experiment": "two", "differs": ""}])
    with pytest.raises(
        UserError, match=r"^0.experiment: 'two' has no row for a dataset of the paper \(cifar100, tiny_"
    ):
        report.check(of_datasets({"2": "two"}))
