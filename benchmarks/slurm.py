"""What Slurm adds to the tiny workflow, where a Slurm is there to submit to (such as that of tests/slurm).

    python -m benchmarks.slurm

The tiny workflow, once by the workstation profile and once by the Slurm profile: wall-clock, seconds of work in
jobs, and CPU seconds of the controller itself. Its jobs are short, so this is the worst case.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent


def run(folder: Path, profile: str, *options: str) -> None:
    """Print what one run took."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    command += ["--workflow-profile", str(ROOT / "workflow/profiles" / profile), *options]
    command += ["--configfile", str(ROOT / "tests/tiny.yaml"), "--", "all"]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    manifests = [json.loads(path.read_text()) for path in (folder / "results").glob("*/*/*/manifest.json")]
    work = sum(manifest["seconds"] for manifest in manifests)
    line = f"{profile}: {wall:.0f} s for {len(manifests)} jobs, in which stages worked {work:.0f} s"
    if profile == "slurm":  # whose jobs are not the controller's children
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        line += f"; CPU of the controller, with tables and figures: {cpu:.0f} s"
    print(line)


def main() -> None:
    """Run twice, from nothing."""
    with tempfile.TemporaryDirectory() as name:
        for profile in ("workstation", "slurm"):
            (Path(name) / profile).mkdir()
            options = ("--slurm-init-seconds-before-status-checks", "2") if profile == "slurm" else ("--cores", "2")
            run(Path(name) / profile, profile, *options)


if __name__ == "__main__":
    main()
