"""What Slurm adds to the tiny workflow, where a Slurm is there to submit to (such as that of tests/slurm).

    python -m benchmarks.slurm [--small]

The tiny workflow, once by the workstation profile and once by the Slurm profile: wall-clock, seconds of work in
jobs, and CPU seconds of the controller itself. Its jobs are short, so this is the worst case. With `--small` only its
datasets are packed.
"""

from __future__ import annotations

import json
import resource
import tempfile
from pathlib import Path

from benchmarks.rows import ROOT, Row, UnavailableError, main, seconds
from tests.slurm.conftest import missing

OPTIONS = {"workstation": ["--cores", "2"], "slurm": ["--slurm-init-seconds-before-status-checks", "2"]}


def run(folder: Path, profile: str, target: str) -> None:
    """The tiny workflow, from nothing."""
    from benchmarks.jobs import snakemake  # imports torch, for which nobody waits where there is no Slurm

    folder.mkdir()
    options = ["--workflow-profile", str(ROOT / "workflow/profiles" / profile), *OPTIONS[profile]]
    snakemake(folder, *options, "--configfile", str(ROOT / "tests/tiny.yaml"), "--", target)


def children_cpu() -> float:
    """CPU seconds of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(*, small: bool = False) -> list[Row]:
    """Wall-clock in both ways, work in jobs, and the controller's CPU time."""
    reason = missing()
    if reason is not None:
        raise UnavailableError(reason)
    target = "datasets" if small else "all"
    with tempfile.TemporaryDirectory() as name:
        alone = seconds(lambda: run(Path(name) / "workstation", "workstation", target))
        before = children_cpu()
        submitted = seconds(lambda: run(Path(name) / "slurm", "slurm", target))
        controller = children_cpu() - before  # jobs are no children of the controller
        manifests = [json.loads(path.read_text()) for path in Path(name).glob("slurm/results/*/*/*/manifest.json")]
    what = f"the smallest workflow, {len(manifests)} jobs of seconds each, on a Slurm of this machine"
    return [
        Row(f"{what}: wall-clock", "the same without Slurm", [submitted / alone]),
        Row(f"{what}: wall-clock", "", [submitted], "s"),
        Row(f"{what}: work of its stages", "", [sum(manifest["seconds"] for manifest in manifests)], "s"),
        Row(f"{what}: CPU time of the controller", "", [controller], "s"),
    ]


if __name__ == "__main__":
    main(measure)
