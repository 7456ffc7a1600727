"""The size of plan that papers have: how long until Snakemake knows what to do.

    python -m benchmarks.planning

A config of 4 datasets, 5 seeds and ablations over levels and widths. Printed are the jobs, the seconds until
Snakemake has listed them all (a dry run from nothing), and those of a run that has nothing to do.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from kd.config import load_config
from kd.plan import Plan

ROOT = Path(__file__).parent.parent
DATASETS = ("a", "b", "c", "d")
SEEDS = 5


def config(results: Path) -> dict[str, Any]:
    """Four datasets, joint teachers at two levels and three widths, controls."""
    joint = {
        f"joint_{level}_{width}": {
            "level": level,
            "width": width,
            "views": 4,
            "recipe": "fusion",
            "experiment": f"w{width}",
        }
        for level in ("L1", "L2")
        for width in (64, 128, 256)
    }
    return {
        "results": str(results),
        "seeds": list(range(SEEDS)),
        "datasets": {
            name: {"source": {"type": "digits"}, "image_size": 32, "split": {"train": 60, "val": 40, "test": 100}}
            for name in DATASETS
        },
        "models": {"resnet": {"architecture": "test_resnet", "latent_dim": 32}},
        "augmentations": {"shake": {"rotation": 10, "translate": 0.1}},
        "recipes": {
            each: {"lr": 0.003, "epochs": 2, "batch_size": 32, "augmentation": "shake"}
            for each in ("network", "fusion")
        },
        "teachers": {name: {"dataset": name, "model": "resnet", "recipe": "network"} for name in DATASETS},
        "joint_teachers": joint,
        "students": {
            f"from_{name}": {"teacher": name, "recipe": "network", "experiment": joint[name]["experiment"]}
            for name in joint
        }
        | {
            f"kd_{level}": {"teacher": "individual", "level": level, "views": 4, "recipe": "network"}
            for level in ("L1", "L2")
        },
        "baselines": {"joint_baseline": {"model": "resnet", "recipe": "network"}},
    }


def snakemake(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    command += ["--cores", "2", "--configfile", str(folder / "config.yaml"), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)


def seconds_of(folder: Path, *arguments: str) -> float:
    """Of one start of Snakemake."""
    started = time.perf_counter()
    snakemake(folder, *arguments)
    return time.perf_counter() - started


def pretend_finished(folder: Path, plan: Plan) -> None:
    """Put there every file that Snakemake looks for."""
    for job in plan.jobs.values():
        job.directory.mkdir(parents=True)
        job.manifest.write_text("{}")
    for line in snakemake(folder, "--summary", "--", "all").stdout.splitlines()[1:]:
        path = folder / line.split("\t")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def main() -> None:
    """Print jobs and seconds."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        raw = config(folder / "results")
        (folder / "config.yaml").write_text(yaml.safe_dump(raw))
        started = time.perf_counter()
        plan = Plan(load_config(raw))
        print(f"{len(plan.jobs)} artefacts; the plan alone: {time.perf_counter() - started:.1f} s")
        print(f"dry run from nothing: {seconds_of(folder, '-n', '-q', '--', 'all'):.1f} s")
        pretend_finished(folder, plan)
        print(f"run with nothing to do: {seconds_of(folder, '--', 'all'):.1f} s")


if __name__ == "__main__":
    main()
