"""The size of plan that papers have: how long until Snakemake knows what to do.

    python -m benchmarks.planning [--small]

A config of 4 datasets, 5 seeds and ablations over levels and widths: seconds until Snakemake has listed all jobs (a dry
run from nothing), and those of a run that has nothing to do. It computes nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.jobs import make_plan, snakemake
from benchmarks.rows import Row, main, seconds
from kd.planning.plan import Plan

DATASETS = ("a", "b", "c", "d")


def config(datasets: Sequence[str], seeds: int) -> dict[str, Any]:
    """Joint teachers at two levels and three widths, controls."""
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
        "seeds": list(range(seeds)),
        "datasets": {
            name: {"source": {"type": "digits"}, "image_size": 32, "split": {"train": 60, "val": 40, "test": 100}}
            for name in datasets
        },
        "models": {"resnet": {"architecture": "test_resnet", "latent_dim": 32}},
        "augmentations": {"shake": {"rotation": 10, "translate": 0.1}},
        "recipes": {
            each: {"lr": 0.003, "epochs": 2, "batch_size": 32, "augmentation": "shake"}
            for each in ("network", "fusion")
        },
        "teachers": {name: {"dataset": name, "model": "resnet", "recipe": "network"} for name in datasets},
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


def run(folder: Path, *arguments: str) -> str:
    """Run the workflow on the config in a folder; what it prints."""
    return snakemake(folder, "--cores", "2", "--configfile", str(folder / "config.yaml"), *arguments)


def pretend_finished(folder: Path, plan: Plan) -> None:
    """Put there every file that Snakemake looks for."""
    for job in plan.jobs.values():
        job.directory.mkdir(parents=True)
        job.manifest.write_text("{}")
    listed = [folder / line.split("\t")[0] for line in run(folder, "--summary", "--", "all").splitlines()[1:]]
    for path in sorted(listed, key=lambda path: "experiments" in path.parts):  # made from all else, so the last
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def measure(*, small: bool = False) -> list[Row]:
    """Seconds of both."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        raw = config(DATASETS[:1], 1) if small else config(DATASETS, 5)
        (folder / "config.yaml").write_text(yaml.safe_dump(raw | {"results": str(folder / "results")}))
        plan = make_plan(folder, raw)
        listed = seconds(lambda: run(folder, "-n", "-q", "--", "all"))
        pretend_finished(folder, plan)
        done = seconds(lambda: run(folder, "--", "all"))
    count = len(plan.jobs)
    return [
        Row(f"a dry run that lists {count} artefacts to be built", "", [listed], "s"),
        Row(f"a run that finds all {count} artefacts built", "", [done], "s"),
    ]


if __name__ == "__main__":
    main(measure)
