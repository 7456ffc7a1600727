"""Before any job: what this run will make, against what is free; nothing is started that cannot be."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any

from PIL import Image

from tests.workflow.running import snakemake, started, wait_until

ANNOUNCED = "still to be made: "
LITTLE_SPACE = """
import os
real = os.statvfs
os.statvfs = lambda path: os.statvfs_result((*real(path)[:4], 1, *real(path)[5:]))
"""


def long_list(root: Path) -> dict[str, Any]:
    """A dataset that lacks one of its images, and whose config is longer than Linux lets an argument be."""
    classes = [f"{number}{'x' * 25_000}" for number in range(6)]
    rows = ["path,label", f"gone.png,{classes[0]}"]
    for number in range(48):
        Image.new("RGB", (20, 20), (5 * number, 0, 0)).save(root / f"{number}.png")
        rows.append(f"{number}.png,{classes[number % 6]}")
    (root / "list.csv").write_text("\n".join(rows))
    source = {"type": "csv_manifest", "csv": str(root / "list.csv"), "classes": classes, "missing": "skip"}
    return {"source": source, "image_size": 32}


def test_preflight__says_what_this_run_makes_and_only_before_real_work(tmp_path: Path, tiny: dict[str, Any]) -> None:
    """Also after a controller was killed: it locks nothing. Of two jobs that want all memory, one runs at a time."""
    tiny["datasets"] = {"digits": tiny["datasets"]["digits"], "listed": long_list(tmp_path)}
    tiny["teachers"] = {"digits_resnet": tiny["teachers"]["digits_resnet"]}
    tiny |= {"joint_teachers": {}, "students": {}, "baselines": {}, "resources": {"all": {"mem_gib": 1_000_000}}}
    killed = started(tmp_path, "datasets", config=tiny, own_group=True)
    wait_until(lambda: list((tmp_path / "results").glob("logs/*/*.log")), 120, "no job starts")
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    done = snakemake(tmp_path, "datasets")
    assert done.returncode == 0, done.stdout
    assert done.stdout.count(f"{ANNOUNCED}2 of 2, ") == 1
    assert done.stdout.index(ANNOUNCED) < done.stdout.index("rule prepare_dataset:")
    assert done.stdout.split("rule prepare_dataset:")[1].count("Finished jobid") == 1
    assert re.search(r"^datasets\.listed: .*missing.*: 1$", done.stdout, re.MULTILINE)
    again = snakemake(tmp_path, "datasets")
    assert "Nothing to be done" in again.stdout
    assert ANNOUNCED not in again.stdout
    # Processes that Snakemake starts for single jobs, by Slurm or not, have this argument.
    (tmp_path / "results/prepare_dataset").rename(tmp_path / "results/before")
    assert ANNOUNCED not in snakemake(tmp_path, "datasets", "--no-hooks").stdout


def test_preflight__a_level_that_is_not_there_stops_the_run_if_it_is_not_a_dry_one(
    tmp_path: Path, tiny: dict[str, Any]
) -> None:
    tiny["models"]["byobnet"] = {"architecture": "crossvit_tiny_240", "input_size": [240, 240]}
    dry = snakemake(tmp_path, "datasets", "-n", config=tiny)
    assert dry.returncode == 0
    assert ANNOUNCED not in dry.stdout
    done = snakemake(tmp_path, "datasets", config=tiny)
    assert done.returncode != 0
    assert "joint_teachers.joint_l2.level: models.byobnet: level L2: the last map of timm's CrossVit" in done.stdout
    assert "Traceback" not in done.stdout
    assert "rule " not in done.stdout
    assert not (tmp_path / "results/prepare_dataset").exists()


def test_preflight__what_does_not_fit_is_not_started(tmp_path: Path, tiny: dict[str, Any]) -> None:
    """On a disk where a single block is free."""
    (tmp_path / "sitecustomize.py").write_text(LITTLE_SPACE)
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(tmp_path)
    try:
        done = snakemake(tmp_path, "teachers", config=tiny, share=False)  # starts no job
    finally:
        os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)
    assert done.returncode != 0
    assert "of space: free some space, set `results`" in done.stdout
    assert "still to be made: 4 of 4" in done.stdout
    assert "nothing was started" in done.stdout
    assert "rule " not in done.stdout
    assert not (tmp_path / "results/prepare_dataset").exists()
