"""Bundle the tables and figures of a finished run into one page, by `snakemake --report`."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from kd.jobs.errors import UserError
from kd.jobs.run import user_errors


def write_report(config: str, snakefile: Path, output: Path) -> None:
    """Run Snakemake's report generator on the tables and figures.

    The calling Snakemake holds the lock of the working directory; the report only reads, so it takes none.

    Args:
        config: the config as JSON.
        snakefile: of the workflow.
        output: .html, or .zip for a page with its assets beside it.

    Raises:
        UserError: Snakemake failed; its own words are in the log.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".json") as stream:
        stream.write(config)
        stream.flush()
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile), "--configfile", stream.name]
        done = subprocess.run([*command, "--nolock", "--report", str(output), "--", "tables", "figures"], check=False)
    if done.returncode:
        raise UserError(f"snakemake --report failed with exit code {done.returncode}; see above")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="the config as JSON")
    parser.add_argument("--snakefile", required=True, type=Path)
    parser.add_argument("--output", required=True, type=Path)
    options = parser.parse_args()
    with user_errors():
        write_report(options.config, options.snakefile, options.output)
