"""Bundle the tables and figures of a finished run into one page, by `snakemake --report`."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from kd.artefacts.files import replacing
from kd.common.errors import UserError
from kd.jobs.handover import handed_over
from kd.jobs.run import user_errors


def write_report(config: Path, snakefile: Path, output: Path) -> None:
    """Run Snakemake's report generator on the tables and figures; `output` is .html, or .zip with assets beside it.

    The calling Snakemake holds the lock of the working directory; the report only reads, so it takes none.

    Raises:
        UserError: Snakemake failed; its own words are in the log.
    """
    handed_over("--config", config)
    with tempfile.TemporaryDirectory() as scratch:
        page = Path(scratch) / output.name
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile), "--configfile", str(config)]
        done = subprocess.run([*command, "--nolock", "--report", str(page), "--", "tables", "figures"], check=False)
        if done.returncode:
            raise UserError(f"snakemake --report failed with exit code {done.returncode}; see above")
        with replacing(output) as path:
            shutil.copyfile(page, path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, type=Path, help="the config, as JSON in a file")
    parser.add_argument("--snakefile", required=True, type=Path)
    parser.add_argument("--output", required=True, type=Path)
    options = parser.parse_args()
    with user_errors():
        write_report(options.config, options.snakefile, options.output)
