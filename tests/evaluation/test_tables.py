"""Tables against numbers worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from kd.evaluation.figures import accuracy_figure, cost_figure, save
from kd.evaluation.tables import SUMMARY_COLUMNS, markdown, measurements, readable, summary
from kd.jobs.job import Job
from kd.plan import Row

VALUES = {
    ("individual", "", 0): 60.0,
    ("individual", "", 1): 62.0,
    ("individual", "", 2): 64.0,
    ("student", "L2", 0): 66.0,
    ("student", "L2", 1): 65.0,
    ("student", "L2", 2): 70.0,
}


def job(name: str) -> Job:
    return Job.make(Path(), "s", name, spec={}, code={}, upstream={})


@pytest.fixture
def table() -> pd.DataFrame:
    rows, manifests = [], {}
    for (row, level, seed), value in VALUES.items():
        made = job(f"{row}{seed}")
        rows.append(Row("e", "d", row, level, seed, made))
        manifests[made.name] = {
            "result": {
                "metrics": [
                    {"dataset": name, "selection": selection, "metric": metric, "value": value + shift}
                    for name, shift in (("d", 0), ("another", 50))
                    for selection in ("best_val", "last")
                    for metric in ("acc@1", "acc@5")
                ]
            }
        }

    def read(made: Job) -> dict[str, Any]:
        return manifests[made.name]

    measured = measurements(rows, read)
    assert len(measured) == len(VALUES) * 4  # the other dataset's metrics are not this row's
    return summary(measured, ["d"])


def test_summary__mean_std_gain(table: pd.DataFrame) -> None:
    assert tuple(table.columns) == SUMMARY_COLUMNS
    student = table[(table["row"] == "student") & (table["metric"] == "acc@1") & (table["selection"] == "last")].iloc[0]
    assert student["n_seeds"] == 3
    assert student["mean"] == pytest.approx(67.0)
    assert student["std"] == pytest.approx(math.sqrt((1 + 4 + 9) / 2), abs=1e-3)
    gains = [6.0, 3.0, 6.0]
    mean = sum(gains) / 3
    error = math.sqrt(sum((gain - mean) ** 2 for gain in gains) / 2 / 3)
    assert student["gain"] == pytest.approx(mean, abs=1e-3)
    assert student["gain_se"] == pytest.approx(error, abs=1e-3)
    individual = table[table["row"] == "individual"]
    assert individual["gain"].isna().all()
    assert table["row"].iloc[0] == "individual"


def test_readable__one_line_per_row(table: pd.DataFrame) -> None:
    short = readable(table, "best_val")
    assert short.to_dict("records") == [
        {"experiment": "e", "row": "individual", "level": "", "d": "62.0 ± 2.0"},
        {"experiment": "e", "row": "student", "level": "L2", "d": "67.0 ± 2.6 (+5.0)"},
    ]
    assert markdown(short).splitlines()[1] == "| --- | --- | --- | --- |"


def test_figures__are_drawn(table: pd.DataFrame, tmp_path: Path) -> None:
    save(accuracy_figure(table, "title", "last"), tmp_path / "accuracy.svg")
    costs = pd.DataFrame(
        [
            {"kind": "stage", "name": "train_teacher", "jobs": 2, "seconds": 4.0, "individual_trainings": 2.0},
            {"kind": "level", "name": "L1", "bytes": 1000, "bytes_per_image": 10.0},
        ]
    )
    save(cost_figure(costs, "title"), tmp_path / "figures" / "cost.png")
    assert "student L2" in (tmp_path / "accuracy.svg").read_text()
    assert (tmp_path / "figures" / "cost.png").read_bytes()[:4] == b"\x89PNG"
