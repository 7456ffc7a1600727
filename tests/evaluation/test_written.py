"""Which tables and figures a run writes, by what is in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from kd.config import load_config
from kd.evaluation.caches import COLUMNS
from kd.evaluation.contents import MULTI_LABEL_TABLES
from kd.jobs.job import Job
from kd.plan import Plan
from kd.stages.plot import draw_figures
from kd.stages.tabulate import write_tables
from tests.evaluation.results import multi_label, single_label

COSTS = pd.DataFrame([{"kind": "stage", "name": "train_teacher", "jobs": 2, "individual_trainings": 2.0}])


def written(tmp_path: Path, tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch, *, multi: bool) -> set[str]:
    """Tables and figures of the tiny config; with `multi`, of digits with several labels, and with a sweep."""
    plan = Plan(load_config(tiny | {"results": str(tmp_path)}))
    if multi:
        next(job for job in plan.stage("prepare_dataset") if job.name == "digits").spec["task"] = "multi_label"
        plan.rows += [replace(plan.rows[-1], row="l2d", variant=f"mld_weight={weight}") for weight in (1, 10)]

    def manifest(_: Job) -> dict[str, Any]:
        values = multi_label("digits", 80.0) if multi else single_label("digits", 80.0)
        return {"result": {"metrics": values + single_label("mnist5k", 70.0)}}

    monkeypatch.setattr("kd.stages.tabulate.read_manifest", manifest)
    monkeypatch.setattr("kd.stages.tabulate.cost", lambda *_: COSTS)
    monkeypatch.setattr("kd.stages.tabulate.cache_table", lambda *_: pd.DataFrame(columns=list(COLUMNS)))
    tables_key = tmp_path / "tables" / "a.key"
    write_tables(plan, tables_key)
    draw_figures(plan, tmp_path / "figures" / "b.key", tables_key)
    return {path.name for path in tmp_path.rglob("*.*") if not path.name.startswith(".")}


def test_write_tables__of_several_labels_and_sweeps_only_where_there_are_any(
    tmp_path: Path, tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    further = {*MULTI_LABEL_TABLES, "multilabel.html", "sensitivity.svg"}
    plain = written(tmp_path, tiny, monkeypatch, multi=False)
    assert {"summary.csv", "measurements.csv", "accuracy.svg", "training_curves.svg", "index.csv"} <= plain
    assert not further & plain
    short = (tmp_path / "tables/summary.md").read_text()
    assert short.startswith("test acc@1 in percent")
    assert "| digits | mnist5k |" in short

    assert written(tmp_path, tiny, monkeypatch, multi=True) == plain | further
    short = (tmp_path / "tables/summary.md").read_text()
    assert short.startswith("test mAP or acc@1 in percent")
    assert "| digits (mAP) | mnist5k |" in short
    assert "mld_weight=10" in (tmp_path / "tables/summary.csv").read_text()
    assert "| cat | 85.0 |" in (tmp_path / "tables/per_class.md").read_text()
    assert "mld weight" in (tmp_path / "figures/sensitivity.svg").read_text()

    assert written(tmp_path, tiny, monkeypatch, multi=False) == plain  # nothing of the other run is left
