"""The whole chain on the tiny config, through Snakemake, from nothing to the report."""

from __future__ import annotations

import copy
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from PIL import Image

from kd.__main__ import main
from kd.data.packed import open_split
from kd.reporting.statistics import SUMMARY_COLUMNS
from tests.conftest import ROOT
from tests.workflow.running import jobs, snakemake

PAGES = "results/experiments/tiny"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, target by target."""
    directory = tmp_path_factory.mktemp("run")
    config = yaml.safe_load((ROOT / "tests/tiny.yaml").read_text())
    for target in ("datasets", "teachers", ""):
        done = snakemake(directory, *filter(None, [target]), config=config)
        assert done.returncode == 0, done.stdout
        (directory / f"{target or 'everything'}.out").write_text(done.stdout)
    return directory


def directory_of(run: Path, name: str) -> Path:
    index = pd.read_csv(run / PAGES / "index.csv", index_col="name")["directory"]
    return run / str(index[name])


def test_run__makes_each_target_from_the_one_before(run: Path) -> None:
    counts = {name: jobs((run / f"{name}.out").read_text()) for name in ("datasets", "teachers", "everything")}
    assert counts["datasets"] == {"datasets": 1, "prepare_dataset": 2}
    assert counts["teachers"] == {"teachers": 1, "train_teacher": 2}
    assert counts["everything"] == {
        "everything": 1,
        "cache_embeddings": 4,
        "train_joint_teacher": 3,
        "cache_targets": 2,
        "distill_student": 3,
        "train_baseline": 1,
        "table": 7,
        "figure": 5,
        "publish_tables": 1,
        "publish_figures": 1,
        "report": 1,
    }


def test_run__two_teachers_at_once(run: Path) -> None:
    log = (run / "teachers.out").read_text()
    started = [match.start() for match in re.finditer("rule train_teacher:", log)]
    assert len(started) == 2
    assert max(started) < log.index("Finished jobid")


def test_run__summary_has_the_said_columns_and_rows(run: Path) -> None:
    table = pd.read_csv(run / PAGES / "tables/summary.csv")
    assert tuple(table.columns) == SUMMARY_COLUMNS
    assert set(table["method"]) == {"individual", "single_dataset_kd", "joint_baseline", "joint_teacher", "student"}
    assert set(table["metric"]) == {"acc@1", "acc@5", "mAP", "val_acc@1"}
    assert set(table["selection"]) == {"best_val", "last"}
    assert table["mean"].between(0, 100).all()
    assert "| individual |" in (run / PAGES / "tables/summary.md").read_text()


def test_run__cost_counts_bytes_that_are_there(run: Path) -> None:
    cost = pd.read_csv(run / PAGES / "tables/cost.csv")
    teachers = cost[cost["name"] == "train_teacher"].iloc[0]
    assert teachers["individual_trainings"] == teachers["jobs"] == 2
    stored = sum(
        path.stat().st_size
        for array in ("L1", "L2", "logits")
        for stage in ("cache_embeddings", "cache_targets")
        for path in (run / "results" / stage).rglob(f"{array}/c.*")
    )
    counted = cost.loc[cost["kind"] == "level", "bytes"].sum()
    assert counted == stored


def test_run__figures_report_and_logs(run: Path) -> None:
    for name in ("accuracy", "training_curves", "cost"):
        assert "<svg" in (run / PAGES / f"figures/{name}.svg").read_text()
    page = (run / PAGES / "report.html").read_text()
    for caption in ("Dotted lines: networks trained with labels alone", "versions of code and libraries"):
        assert caption in page
    log = next((run / "results/logs/train_teacher").glob("digits_resnet-seed0-*.log")).read_text()
    assert re.search("running on (cpu|cuda:0)", log)
    assert "step 4/4 epoch=2" in log
    assert not list((run / "results").rglob(".checkpoint*"))


def test_run__manifest_records_what_made_it(run: Path) -> None:
    student = directory_of(run, "mlfd_l1-for-digits-seed0")
    manifest = json.loads((student / "manifest.json").read_text())
    assert manifest["key"] == student.name
    assert manifest["versions"]["torch"]
    assert manifest["spec"]["recipe"]["augmentation"]["rotation"] == 10
    assert {record["path"] for record in manifest["files"]} >= {"config.json", "model.safetensors", "history.csv"}
    assert manifest["seconds"] > 0


def test_run__again_runs_nothing_even_without_snakemakes_memory(run: Path) -> None:
    assert "Nothing to be done" in snakemake(run).stdout
    shutil.rmtree(run / ".snakemake")
    assert "Nothing to be done" in snakemake(run).stdout


def test_run__a_changed_recipe_makes_new_directories_and_keeps_the_old(run: Path, tiny: dict[str, Any]) -> None:
    """Also where Snakemake remembers nothing: in a fresh clone with the same results folder."""
    original = copy.deepcopy(tiny)
    tiny["recipes"]["student"] = tiny["recipes"]["network"] | {"lr": 0.01}
    tiny["students"]["mlfd_l1"]["recipe"] = "student"
    table = run / PAGES / "tables/summary.csv"
    before = table.read_text()
    published = {"publish_tables": 1, "publish_figures": 1}
    changes = ((tiny, {"distill_student": 1, "table": 7, "figure": 5} | published), (original, published))
    for config, expected in changes:
        shutil.rmtree(run / ".snakemake")
        done = snakemake(run, "all", config=config)
        assert jobs(done.stdout) == expected
        assert done.returncode == 0, done.stdout
        assert "Nothing to be done" in snakemake(run, "all").stdout
    assert table.read_text() == before


def test_run__a_job_on_a_whole_artefact_ends_at_once(run: Path) -> None:
    """Snakemake deletes a declared output before it starts a job; no work is done twice for that."""
    teacher = directory_of(run, "digits_resnet-seed0")
    weights = teacher / "network.safetensors"
    before = weights.stat().st_mtime_ns
    (teacher / "manifest.json").unlink()
    assert snakemake(run, "teachers").returncode == 0
    assert (teacher / "manifest.json").is_file()
    assert weights.stat().st_mtime_ns == before
    log = next((run / "results/logs/train_teacher").glob("digits_resnet-seed0-*.log")).read_text()
    assert "already built" in log


TIMM_ALONE = """
import sys, timm, torch, zarr
test = zarr.open_group(sys.argv[1] + "/images.zarr", mode="r")["test"]
images = torch.from_numpy(test["images"][:]).permute(0, 3, 1, 2).float().div(255).expand(-1, 3, -1, -1)
for student in sys.argv[2:]:
    model = timm.create_model("local-dir:" + student, pretrained=True).eval()
    config = model.pretrained_cfg
    mean, std = (torch.tensor(config[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        predicted = model((images - mean) / std).argmax(1)
    print(100 * (predicted == torch.from_numpy(test["labels"][:])).double().mean().item())
assert not [name for name in sys.modules if name.split(".")[0] == "kd"]
"""


def test_student__loaded_by_timm_alone_has_the_accuracy_of_the_table(run: Path) -> None:
    levels = ("L1", "L2")
    students = [directory_of(run, f"mlfd_{level.lower()}-for-digits-seed0") for level in levels]
    command = [sys.executable, "-c", TIMM_ALONE, str(directory_of(run, "digits")), *map(str, students)]
    done = subprocess.run(command, cwd=run, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(run / PAGES / "tables/measurements.csv")
    chosen = table[
        (table["method"] == "student") & (table["metric"] == "acc@1") & (table["selection"] == "best_val")
    ].set_index("level")["value"]
    assert [float(line) for line in done.stdout.splitlines()] == pytest.approx(chosen[list(levels)].tolist(), abs=1e-9)


def test_predict__prints_class_names(run: Path, tmp_path: Path) -> None:
    split = open_split(directory_of(run, "digits"), "test")
    for index in range(3):
        Image.fromarray(split.images.read()[index, :, :, 0]).save(tmp_path / f"{index}.png")
    student = directory_of(run, "mlfd_l1-for-digits-seed0")
    command = [sys.executable, "-m", "kd", "predict", str(student), str(tmp_path), "--top", "3"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert [Path(line[0]).name for line in lines] == ["0.png", "1.png", "2.png"]
    assert all(re.fullmatch(r"\d \d+\.\d%", cell) for line in lines for cell in line[1:])


def test_predict__of_no_file_is_one_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    student = directory_of(run, "mlfd_l1-for-digits-seed0")
    monkeypatch.setattr("sys.argv", ["kd", "predict", str(student), str(tmp_path / "nothing.png")])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 1
    assert capsys.readouterr().err == f"error: {tmp_path}/nothing.png: no such file or folder\n"


def test_plan__imports_no_numpy() -> None:
    """Every command of `python -m kd` plans first."""
    check = "import sys; import kd.planning.plan; assert 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=True)


def test_dry_run__imports_no_torch(tmp_path: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "-n"]
    done = subprocess.run(
        [*command, "--configfile", str(ROOT / "config/config.yaml"), "--directory", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines() if line.startswith("import time")}
    assert "kd.planning.plan" in imported
    unwanted = {"torch", "timm", "sklearn", "zarr", "matplotlib"}
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:  # imports it itself
        unwanted.add("pandas")
    assert not imported & unwanted
