"""Run all benchmarks, or some, and write their rows into the README.

    python -m benchmarks [NAME ...] [--small] [--readme FILE]

Where only some are run, the rows of the others stay, with what was said of them. Each is a process of its own. One that
needs what is not here, such as a Slurm, is left out, and the README says so.
"""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
import time
from collections.abc import Sequence

from benchmarks.readme import MEANINGLESS, Block, find_block, machine, make_parser, readme_of, write_block
from benchmarks.rows import SKIPPED

NAMES = (
    "build_cache",
    "read_cache",
    "clips",
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


def make_block(chosen: Sequence[str] = (), before: str = "", *, small: bool) -> Block:
    """All rows as one table, and what is to be known about them.

    Args:
        chosen: benchmarks that are run; none: all.
        before: content of the block until now, of which the rows of the others stay.
        small: as little data as possible.
    """
    names, table = chosen or NAMES, list[str]()
    kept = [line for line in before.splitlines(keepends=True) if line.startswith("| ")]
    note = f"on {dt.datetime.now(tz=dt.UTC).date()}: {machine()}. Medians, with the range over rounds."
    started = time.monotonic()
    for name in NAMES:
        if name in names:
            lines, reason = rows_of(name, small=small)
            print("".join(lines) or f"{name} is left out: {reason}\n", flush=True)
            note += f" Left out: `benchmarks.{name}`, which {reason}." if reason else ""
        else:
            lines = [*kept[:2], *(line for line in kept if f"`python -m benchmarks.{name}" in line)]
        table += lines[2:] if table else lines
    note += f" All of it took {(time.monotonic() - started) / 60:.0f} minutes."
    note += MEANINGLESS if small else ""
    others = [name for name in NAMES if name not in names]
    if others:
        told = next(line for line in before.splitlines() if line.startswith("Written by"))
        note += f" The rows of {', '.join(f'`benchmarks.{name}`' for name in others)} are older: w{told[1:]}"
    command = " ".join(["python -m benchmarks", *(names if others else ()), *(["--small"] if small else [])])
    return Block(BLOCK, command, "".join(table), note)


def main() -> None:
    """Command line."""
    options = make_parser(__doc__, NAMES).parse_args()
    readme = readme_of(options, [BLOCK])
    before = "" if readme is None else find_block(readme.read_text(), BLOCK)["content"]
    if options.names and not before:
        raise SystemExit(
            "some benchmarks alone are written into a README that has the rows of the others: --readme FILE"
        )
    block = make_block(options.names, before, small=options.small)
    print(block.note)
    if readme is not None:
        write_block(readme, block)


if __name__ == "__main__":
    main()
