"""Run all benchmarks, or some, and write their rows into the page that shows them.

    python -m benchmarks [NAME ...] [--small] [--page FILE]

Where only some are run, the rows of the others stay, with what was said of them. Each is a process of its own. One that
needs what is not here, such as a Slurm, is left out, and the page says so.
"""

from __future__ import annotations

import datetime as dt
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

from benchmarks.pages import MEANINGLESS, Block, find_block, machine, make_parser, places_of, write_block
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
        raise SystemExit(f"benchmarks.{name} failed; no page is changed")
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
    note += "".join(told_of(others, before))
    command = " ".join(["python -m benchmarks", *(names if others else ()), *(["--small"] if small else [])])
    return Block(BLOCK, command, "".join(table), note)


def told_of(names: Sequence[str], before: str) -> Iterator[str]:
    """What the block said of the runs that rows of these benchmarks are of, the newest run first.

    Args:
        names: benchmarks whose rows stay.
        before: content of the block. Each of its sentences on older rows names those that the sentences ahead of it
            do not speak of.
    """
    written = next((line for line in before.splitlines() if line.startswith("Written by")), "")
    told = re.split(r" The rows of (.+?) are older: w", written.removeprefix("W"))
    older = [re.findall(r"`benchmarks\.(\w+)`", each) for each in told[1::2]]
    for number, text in enumerate(told[::2]):
        listed = older[number - 1] if number else list(NAMES)
        later = {name for each in older[number:] for name in each}
        of = [name for name in names if name in listed and name not in later]
        if of:
            yield f" The rows of {', '.join(f'`benchmarks.{name}`' for name in of)} are older: w{text}"


def main() -> None:
    """Command line."""
    options = make_parser(__doc__, NAMES).parse_args()
    page = places_of(options, [BLOCK]).get(BLOCK)
    before = "" if page is None else find_block(page.read_text(), BLOCK)["content"]
    if options.names and not before:
        raise SystemExit("some benchmarks alone are written into a page that has the rows of the others: --page FILE")
    block = make_block(options.names, before, small=options.small)
    print(block.note)
    if page is not None:
        write_block(page, block)


if __name__ == "__main__":
    main()
