"""Two Snakemakes on one results folder, started at the same moment: nothing is made twice, nothing is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from kd.artefacts.manifest import KEPT, check_manifest, read_manifest
from kd.config.load import load_config
from kd.jobs.run import JOB_LOG
from kd.planning.plan import Plan
from tests.conftest import ROOT
from tests.workflow.running import snakemake, started


def smallest(tiny: dict[str, Any]) -> dict[str, Any]:
    """The tiny config with one dataset, and so one artefact of each stage but the baseline."""
    del tiny["datasets"]["mnist5k"], tiny["teachers"]["mnist5k_byobnet"]
    tiny["joint_teachers"] = {"joint_l1": tiny["joint_teachers"]["joint_l1"]}
    tiny["students"] = {"mlfd_l1": tiny["students"]["mlfd_l1"]}
    del tiny["baselines"]
    return tiny


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, list[str]]:
    """The plan, and what each of two controllers printed."""
    root = tmp_path_factory.mktemp("shared")
    config = smallest(yaml.safe_load((ROOT / "tests/tiny.yaml").read_text())) | {"results": str(root / "results")}
    running = []
    for name in ("first", "second"):
        (root / name).mkdir()
        running.append(started(root / name, "all", "report", config=config))
    printed = [each.communicate(timeout=300)[0] for each in running]
    assert [each.returncode for each in running] == [0, 0], "\n".join(printed)
    return Plan(load_config(config)), printed


def test_two_controllers__each_artefact_is_made_once(both: tuple[Plan, list[str]]) -> None:
    plan, _ = both
    redundant = 0
    for job in plan.jobs.values():
        log = (job.directory / ".job.log").read_text()
        assert log.count(": building ") == 1, log
        assert log.count(": done in ") == 1, log
        redundant += log.count(": already built")
        check_manifest(read_manifest(job), job, chunks=True)
    assert redundant  # else the two did not meet


def test_two_controllers__leave_nothing_behind_and_nothing_to_do(both: tuple[Plan, list[str]]) -> None:
    plan, _ = both
    results = plan.config.results
    kept = {".lock", ".job.json", ".job.log", ".jobs", ".published.json", KEPT}
    assert not {path.name for path in results.rglob(".*")} - kept
    for name in ("first", "second"):
        assert "Nothing to be done" in snakemake(results.parent / name, "all", "report").stdout
    for name in ("tables/summary.csv", "tables/summary.md", "figures/accuracy.svg", "report.html", "index.csv"):
        assert (plan.folder / name).stat().st_size > 0


def test_two_controllers__a_redundant_job_deletes_nothing(both: tuple[Plan, list[str]], tmp_path: Path) -> None:
    """What a controller that planned before the work was done does later: here, forced."""
    plan, _ = both
    config = plan.config.model_dump(mode="json")
    before = {job.directory: job.manifest.stat().st_ino for job in plan.jobs.values()}
    done = snakemake(tmp_path, "teachers", "--forcerun", "train_teacher", config=config)
    assert done.returncode == 0, done.stdout
    assert {job.directory: job.manifest.stat().st_ino for job in plan.jobs.values()} == before


def test_two_controllers__a_job_that_fails_leaves_the_manifest_alone(
    both: tuple[Plan, list[str]], tmp_path: Path
) -> None:
    """Snakemake by itself writes a copy of its own over it: not in one step, and not if it is another user's."""
    plan, _ = both
    (job,) = plan.stage("train_teacher")
    log = job.directory / JOB_LOG
    log.rename(tmp_path / "log")
    log.symlink_to(tmp_path / "log")  # is not written to
    before = job.manifest.stat()
    done = snakemake(tmp_path, "teachers", "--forcerun", "train_teacher", config=plan.config.model_dump(mode="json"))
    assert done.returncode != 0
    assert "must hold plain files" in done.stdout
    assert job.manifest.stat().st_mtime_ns == before.st_mtime_ns
    assert job.manifest.stat().st_ino == before.st_ino
    log.unlink()
    (tmp_path / "log").rename(log)
