"""Which tables and figures a run has, by what is in it, and how they are published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from kd.artefacts.job import Job
from kd.artefacts.manifest import write_manifest
from kd.cli.publish import publish
from kd.common.errors import UserError
from kd.config.load import load_config
from kd.data.packed import STORE
from kd.planning.plan import Plan
from kd.reporting.statistics import PLACE
from kd.reporting.tables.cache import COLUMNS
from kd.training.predictions import SELECTIONS, write_predictions
from tests.conftest import ROOT, make
from tests.reporting.results import CLASSES, multi_label, single_label
from tests.reporting.stored import pretend_dataset

COSTS = pd.DataFrame([{"kind": "stage", "name": "train_teacher", "jobs": 2, "individual_trainings": 2.0}])


@pytest.fixture(autouse=True)
def _no_stores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is stored here that could be counted."""
    empty = pd.DataFrame(columns=[*PLACE[:4], *COLUMNS])
    for module in ("tables", "figures"):
        monkeypatch.setattr(f"kd.reporting.{module}.cost.cost", lambda _: COSTS)
        monkeypatch.setattr(f"kd.reporting.{module}.cache.cache_table", lambda *_: empty)


def pretend(plan: Plan, notes: dict[str, int] | None = None) -> None:
    """Manifests of everything that tables and figures are of, and the files that they open."""
    multi = {job.name for job in plan.stage("prepare_dataset") if job.spec["task"] == "multi_label"}
    metrics = [
        metric
        for number, dataset in enumerate(plan.config.datasets)
        for metric in (multi_label if dataset in multi else single_label)(dataset, 80.0 - 10 * number)
    ]
    for job in plan.run().jobs.values():
        job.directory.mkdir(parents=True, exist_ok=True)
        if job.stage == "prepare_dataset" and not (job.directory / STORE).exists():
            pretend_dataset(job, CLASSES)
    labels = {
        name: np.eye(3, dtype=np.uint8)[[0, 1, 1]] if name in multi else np.array([0, 1, 1])
        for name in plan.config.datasets
    }
    logits = dict.fromkeys(SELECTIONS, np.eye(3, dtype=np.float32))
    for row in plan.rows:
        write_predictions(row.job.directory, row.dataset, np.arange(3), labels[row.dataset], logits)
    for job in plan.run().jobs.values():
        result = {"metrics": metrics, "sizes": {"train": 60}, "notes": notes or {}}
        write_manifest(job, result=result, seconds=1.0, device="cpu")


def reports(plan: Plan) -> list[Job]:
    return [job for job in plan.jobs.values() if job.directory not in plan.run().jobs]


def written(results: Path, config: dict[str, Any], configfile: str = "", notes: dict[str, int] | None = None) -> Path:
    """The folder of an experiment with tables and figures."""
    plan = Plan(load_config(config | {"results": str(results)}))
    pretend(plan, notes)
    for job in reports(plan):
        make(job)
    for what in ("tables", "figures"):
        publish(plan, what, configfile)
    return plan.folder


def multilabel() -> dict[str, Any]:
    """A config with labels and a sweep, under the name of the tiny one."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "tests/multilabel.yaml").read_text())
    return config | {"experiment": "tiny", "reports": {}}


def names(folder: Path) -> set[str]:
    """But of keys, which are those of configs."""
    return {path.name for path in folder.rglob("*.*") if not path.name.startswith(".") and path.suffix != ".key"}


def test_publish__of_several_labels_and_sweeps_only_where_there_are_any(tmp_path: Path, tiny: dict[str, Any]) -> None:
    further = {"multilabel.csv", "multilabel.md", "multilabel.html", "sensitivity.svg"}
    further |= {"table-multilabel.rst", "figure-sensitivity.rst"}
    folder = written(tmp_path, tiny)
    plain = names(folder)
    assert {"summary.csv", "measurements.csv", "accuracy.svg", "training_curves.svg", "index.csv"} <= plain
    assert {f"{name}.csv" for name in ("per_class", "calibration", "agreement", "bootstrap")} <= plain
    assert {"calibration.svg", "figure-calibration.rst", "table-calibration.rst"} <= plain
    assert not further & plain
    short = (folder / "tables/summary.md").read_text()
    assert short.startswith("**digits**, 60 training samples, 1 seed: distilling from several datasets made no diff")
    assert "\n\ntest acc@1 in percent" in short
    assert "<b>digits</b>, 60 training samples" in (folder / "tables/summary.html").read_text()
    assert (folder / "tables/front_page.rst").read_text().startswith("**digits**, 60 training samples")
    assert "| digits | mnist5k |" in short

    assert names(written(tmp_path, multilabel())) == plain | further
    short = (folder / "tables/summary.md").read_text()
    assert "\n\ntest mAP in percent" in short
    assert "| digits (mAP) | letters (mAP) |" in short
    assert "mld_weight=10" in (folder / "tables/summary.csv").read_text()
    assert "| cat | 1 | 85.0 |" in (folder / "tables/per_class.md").read_text()
    assert "mld weight" in (folder / "figures/sensitivity.svg").read_text()

    (folder / "tables/notes of mine.txt").write_text("kept")
    assert names(written(tmp_path, tiny)) - further == plain | {"notes of mine.txt"}  # nothing of the other run is left
    assert not (folder / "tables/multilabel.csv").exists()
    assert not (folder / "figures/sensitivity.svg").exists()


def test_report__is_made_again_when_what_it_reads_was(tmp_path: Path, tiny: dict[str, Any]) -> None:
    """Of the same key: somebody removed a student, and on a GPU it came out a little different."""
    folder = written(tmp_path, tiny)
    plan = Plan(load_config(tiny | {"results": str(tmp_path)}))
    assert "80.000" not in (folder / "tables/summary.csv").read_text().splitlines()[0]
    before = {job.directory: job.manifest.read_bytes() for job in reports(plan)}
    written(tmp_path, tiny)
    assert {job.directory: job.manifest.read_bytes() for job in reports(plan)} == before
    student = plan.stage("distill_student")[0]
    metrics = single_label("digits", 12.5)
    write_manifest(student, result={"metrics": metrics, "sizes": {}, "notes": {}}, seconds=1.0, device="cpu")
    for job in reports(plan):
        make(job)
    publish(plan, "tables")
    assert "12.5" in (folder / "tables/summary.csv").read_text()


def test_report__checks_the_files_that_it_opens(tmp_path: Path, tiny: dict[str, Any]) -> None:
    written(tmp_path, tiny)
    plan = Plan(load_config(tiny | {"results": str(tmp_path)}))
    student = plan.stage("distill_student")[0]
    history = student.directory / "history.csv"
    history.write_text("epoch,val_acc@1\n0,1.0\n")
    write_manifest(student, result={"metrics": [], "sizes": {}, "notes": {}}, seconds=2.0, device="cpu")
    history.write_text("epoch,val_acc")
    (curves,) = (job for job in plan.stage("figure") if job.name.startswith("training_curves"))
    with pytest.raises(UserError, match=r"history\.csv.*run again"):
        make(curves)


def test_publish__experiments_of_one_results_folder_keep_their_own(tmp_path: Path, tiny: dict[str, Any]) -> None:
    """And what is there says whose it is, and can be run again."""
    first = written(tmp_path, tiny, "/first.yaml")
    before = {path: path.read_bytes() for path in first.rglob("*") if path.is_file()}
    second = written(tmp_path, tiny | {"experiment": "other"}, "/second.yaml")
    assert (first, second) == (tmp_path / "experiments/tiny", tmp_path / "experiments/other")
    assert {path: path.read_bytes() for path in before} == before
    assert names(first) == names(second)
    signed = json.loads((second / "run.json").read_text())
    assert (signed["experiment"], signed["configfile"]) == ("other", "/second.yaml")
    assert {"user", "host", "written", "git_commit"} < set(signed)
    again = load_config(yaml.safe_load((second / "config.yaml").read_text()))
    assert again == load_config(tiny | {"experiment": "other", "results": str(tmp_path)})


def test_run_page__names_what_stages_left_out(tmp_path: Path, tiny: dict[str, Any]) -> None:
    assert "Notes" not in (written(tmp_path, tiny) / "tables/run.html").read_text()
    page = (written(tmp_path, tiny, notes={"files <that> are no images": 3}) / "tables/run.html").read_text()
    for name in ("digits", "mnist5k"):
        cells = (f"datasets.{name}", "files &lt;that&gt; are no images", "3")
        assert f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>" in page
