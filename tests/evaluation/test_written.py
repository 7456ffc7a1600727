"""Which tables and figures a run writes, by what is in it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from kd.config import load_config
from kd.evaluation.caches import COLUMNS
from kd.evaluation.contents import MULTI_LABEL_TABLES
from kd.jobs.job import Job
from kd.jobs.manifest import write_manifest
from kd.plan import Plan
from kd.stages.plot import draw_figures
from kd.stages.tabulate import write_tables
from tests.evaluation.results import multi_label, single_label

COSTS = pd.DataFrame([{"kind": "stage", "name": "train_teacher", "jobs": 2, "individual_trainings": 2.0}])


def written(
    results: Path,
    tiny: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    *,
    multi: bool = False,
    configfile: str = "",
    figures: bool = True,
) -> Path:
    """The folder of an experiment of the tiny config; with `multi`, of digits with several labels, and with a sweep."""
    plan = Plan(load_config(tiny | {"results": str(results)}))
    if multi:
        next(job for job in plan.stage("prepare_dataset") if job.name == "digits").spec["task"] = "multi_label"
        plan.rows += [replace(plan.rows[-1], row="l2d", variant=f"mld_weight={weight}") for weight in (1, 10)]

    def manifest(_: Job) -> dict[str, Any]:
        values = multi_label("digits", 80.0) if multi else single_label("digits", 80.0)
        result = {"metrics": values + single_label("mnist5k", 70.0), "sizes": {"train": 60}}
        return {"seconds": 1.0, "bytes": 1000, "result": result}

    monkeypatch.setattr("kd.stages.tabulate.read_manifest", manifest)
    monkeypatch.setattr("kd.stages.tabulate.cost", lambda *_: COSTS)
    monkeypatch.setattr("kd.stages.tabulate.cache_table", lambda *_: pd.DataFrame(columns=list(COLUMNS)))
    tables_key = plan.folder / "tables/a.key"
    write_tables(plan, tables_key, configfile)
    if figures:
        draw_figures(plan, plan.folder / "figures/b.key", tables_key)
    return plan.folder


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*.*") if not path.name.startswith(".")}


def test_write_tables__of_several_labels_and_sweeps_only_where_there_are_any(
    tmp_path: Path, tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    further = {*MULTI_LABEL_TABLES, "multilabel.html", "sensitivity.svg"}
    folder = written(tmp_path, tiny, monkeypatch)
    plain = names(folder)
    assert {"summary.csv", "measurements.csv", "accuracy.svg", "training_curves.svg", "index.csv"} <= plain
    assert not further & plain
    short = (folder / "tables/summary.md").read_text()
    assert short.startswith("**digits**, 60 training images, 1 seed: distilling from several datasets made no diff")
    assert "\n\ntest acc@1 in percent" in short
    assert "<b>digits</b>, 60 training images" in (folder / "tables/summary.html").read_text()
    assert (folder / "tables/front_page.rst").read_text().startswith("**digits**, 60 training images")
    assert "| digits | mnist5k |" in short

    assert names(written(tmp_path, tiny, monkeypatch, multi=True)) == plain | further
    short = (folder / "tables/summary.md").read_text()
    assert "\n\ntest mAP or acc@1 in percent" in short
    assert "| digits (mAP) | mnist5k |" in short
    assert "mld_weight=10" in (folder / "tables/summary.csv").read_text()
    assert "| cat | 85.0 |" in (folder / "tables/per_class.md").read_text()
    assert "mld weight" in (folder / "figures/sensitivity.svg").read_text()

    assert names(written(tmp_path, tiny, monkeypatch)) == plain  # nothing of the other run is left


def test_write_tables__experiments_of_one_results_folder_keep_their_own(
    tmp_path: Path, tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what is there says whose it is, and can be run again."""
    first = written(tmp_path, tiny, monkeypatch, configfile="/first.yaml")
    before = {path: path.read_bytes() for path in first.rglob("*") if path.is_file()}
    second = written(tmp_path, tiny | {"experiment": "other"}, monkeypatch, configfile="/second.yaml")
    assert (first, second) == (tmp_path / "experiments/tiny", tmp_path / "experiments/other")
    assert {path: path.read_bytes() for path in before} == before
    assert names(first) == names(second)
    signed = json.loads((second / "run.json").read_text())
    assert (signed["experiment"], signed["configfile"]) == ("other", "/second.yaml")
    assert {"user", "host", "written", "git_commit"} < set(signed)
    again = load_config(yaml.safe_load((second / "config.yaml").read_text()))
    assert again == load_config(tiny | {"experiment": "other", "results": str(tmp_path)})


def test_run_page__names_what_stages_left_out(
    tmp_path: Path, tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Notes" not in (written(tmp_path, tiny, monkeypatch, figures=False) / "tables/run.html").read_text()
    datasets = Plan(load_config(tiny | {"results": str(tmp_path)})).stage("prepare_dataset")
    for count, job in enumerate(datasets, start=3):
        job.directory.mkdir(parents=True)
        write_manifest(job, result={"notes": {"files <that> are no images": count}}, seconds=1.0, device="cpu")
    page = (written(tmp_path, tiny, monkeypatch, figures=False) / "tables/run.html").read_text()
    for name, count in (("digits", 3), ("mnist5k", 4)):
        cells = (f"datasets.{name}", "files &lt;that&gt; are no images", str(count))
        assert f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>" in page
