"""Run all benchmarks, and write their rows into the README.

    python -m benchmarks [--small] [--readme FILE]

Each is a process of its own. One that needs what is not here, such as a Slurm, is left out, and the README says so.
"""

from __future__ import annotations

import subprocess
import sys
import time

from benchmarks.readme import MEANINGLESS, Block, machine, make_parser, readme_of, today, write_block
from benchmarks.rows import SKIPPED

BENCHMARKS = (
    "build_cache",
    "read_cache",
    "training_cost",
    "memory",
    "view_streams",
    "label_distances",
    "checkpoints",
    "planning",
    "start_up",
    "slurm",
)
BLOCK = "costs"


def rows_of(name: str, *, small: bool) -> tuple[list[str], str]:
    """The lines of a benchmark's table, its header first, and, if there are none, why."""
    command = [sys.executable, "-m", f"benchmarks.{name}", *(["--small"] if small else [])]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode == SKIPPED:
        return [], done.stdout.strip()
    if done.returncode:
        raise SystemExit(f"benchmarks.{name} failed; the README stays as it is")
    return [line for line in done.stdout.splitlines(keepends=True) if line.startswith("| ")], ""


def make_block(*, small: bool) -> Block:
    """All rows as one table, and what is to be known about them."""
    table: list[str] = []
    note = f"on {today()}: {machine()}. Medians, with the range over rounds."
    started = time.monotonic()
    for name in BENCHMARKS:
        lines, reason = rows_of(name, small=small)
        print("".join(lines) or f"{name} is left out: {reason}\n", flush=True)
        table += lines[2:] if table else lines
        note += f" Left out: `benchmarks.{name}`, which {reason}." if reason else ""
    note += f" All of it took {(time.monotonic() - started) / 60:.0f} minutes."
    note += MEANINGLESS if small else ""
    return Block(BLOCK, f"python -m benchmarks{' --small' if small else ''}", "".join(table), note)


def main() -> None:
    """Command line."""
    options = make_parser(__doc__).parse_args()
    readme = readme_of(options, [BLOCK])
    block = make_block(small=options.small)
    print(block.note)
    if readme is not None:
        write_block(readme, block)


if __name__ == "__main__":
    main()
