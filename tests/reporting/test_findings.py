"""Claims about a run, answered from paired differences."""

from __future__ import annotations

import io
from typing import Any

import pandas as pd
import pytest
from scipy.stats import ttest_rel

from kd.common.errors import UserError
from kd.reporting.base import Run
from kd.reporting.tables.findings import Report
from tests.reporting.results import Results, multi_label, single_label

STUDENT = {"digits": (75.0, 77.0, 78.5), "scenes": (60.0, 61.0, 64.0), "alone": (1.0, 2.0, 3.0)}
INDIVIDUAL = {"digits": (70.0, 73.0, 73.0), "scenes": (59.0, 58.0, 60.0), "other": (1.0, 2.0, 3.0)}


@pytest.fixture
def run() -> Run:
    """Students in an experiment of their own, on two datasets that individual teachers are on, too."""
    results = Results()
    both: list[tuple[dict[str, Any], str, dict[str, str]]] = [
        (STUDENT, "student", {"level": "L2", "experiment": "two"}),
        (INDIVIDUAL, "individual", {}),
    ]
    for scores, method, place in both:
        for dataset, values in scores.items():
            metrics = multi_label if dataset == "scenes" else single_label
            for seed, value in enumerate(values):
                results.add(method, metrics(dataset, value), dataset=dataset, seed=seed, **place)
                results.add(method, metrics(dataset, 0.0), dataset=dataset, seed=seed, variant="a=1", **place)
    return results.run("scenes", "digits", "alone", "other")


def table(run: Run, **claim: Any) -> dict[str, Any]:
    given = {
        "claim": "it helps",
        "better": {"method": "student", "experiment": "two"},
        "worse": {"method": "individual"},
    }
    report = Report.model_validate({"claims": [given | claim]})
    report.check(run)
    return dict(report.table(run).iloc[0])


def test_findings__pair_datasets_and_seeds_that_both_have(run: Run) -> None:
    found = table(run)
    ours = [*STUDENT["scenes"], *STUDENT["digits"]]
    theirs = [*INDIVIDUAL["scenes"], *INDIVIDUAL["digits"]]
    differences = pd.Series(ours) - pd.Series(theirs)
    assert found["datasets"] == "scenes digits"
    assert found["pairs"] == 6
    assert found["difference"] == pytest.approx(differences.mean(), abs=1e-3)
    assert found["se"] == pytest.approx(differences.sem(), abs=1e-3)
    assert found["p"] == pytest.approx(ttest_rel(ours, theirs).pvalue, abs=1e-5)
    assert found["finding"] == "holds"


def test_findings__the_opposite_and_no_difference(run: Run) -> None:
    swapped = table(run, better={"method": "individual"}, worse={"method": "student", "experiment": "two"})
    assert swapped["finding"] == "the opposite holds"
    assert table(run, datasets=["digits"])["finding"] == "holds"
    same = table(run, worse={"method": "student", "experiment": "two", "level": "L2"})
    assert (same["difference"], same["finding"]) == (0, "no difference seen")


def test_findings__for_people(run: Run) -> None:
    report = Report.model_validate(
        {
            "claims": [
                {
                    "claim": "a | b <c>",
                    "better": {"method": "student", "experiment": "two"},
                    "worse": {"method": "individual"},
                }
            ]
        }
    )
    texts = report.texts(run)
    assert "| a \\| b \\<c> | scenes, digits | +3.75 ± 0.66 | 0.0023 | holds |" in texts["findings.md"]
    assert "a | b &lt;c&gt;" in texts["findings.html"]
    assert pd.read_csv(io.StringIO(texts["findings.csv"]))["pairs"].tolist() == [6]


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        ({"better": {"method": "kd"}}, r"claims.0.better: there is no kd in the tables"),
        ({"worse": {"method": "student"}}, r"claims.0.worse: there is no student in the tables"),
        ({"datasets": ["digits", "alone"]}, r"claims.0.datasets: \['alone'\] of both two student and individual"),
    ],
)
def test_findings__mistakes(run: Run, claim: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}"):
        table(run, **claim)


def test_findings__a_method_of_several_levels_needs_one() -> None:
    results = Results()
    for level in ("L1", "L2"):
        results.add("student", single_label("d", 1.0), level=level)
    results.add("individual", single_label("d", 1.0))
    with pytest.raises(UserError, match=r"claims.0.better.level: student has several: L1, L2; say which"):
        table(results.run(), better={"method": "student"})
    assert table(results.run(), better={"method": "student", "level": "L2"})["finding"] == "no difference seen"
