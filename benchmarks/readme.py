"""The parts of a README that benchmarks write: what is between a pair of markers, and nothing else."""

from __future__ import annotations

import argparse
import datetime as dt
import os
import re
from dataclasses import dataclass
from pathlib import Path

from benchmarks.rows import parser

README = Path(__file__).parent.parent / "README.md"
BLOCK = re.compile(r"<!-- begin (?P<name>\w+) -->\n(?P<content>.*?)<!-- end (?P=name) -->", re.DOTALL)


MEANINGLESS = " It was run with `--small`, on so little data that its numbers mean nothing."


@dataclass(frozen=True)
class Block:
    """What a command writes between two markers.

    Attributes:
        name: of the markers.
        command: that writes it.
        table: in Markdown.
        note: sentences on what was measured, and on which kind of machine.
    """

    name: str
    command: str
    table: str
    note: str

    def __str__(self) -> str:
        return f"\n{self.table}\nWritten by `{self.command}` {self.note}\n\n"


def write_block(path: Path, block: Block) -> None:
    """Replace what is between the markers of a block.

    Raises:
        ValueError: the file does not have them exactly once.
    """
    text = path.read_text()
    found = [match for match in BLOCK.finditer(text) if match["name"] == block.name]
    if len(found) != 1:
        raise ValueError(f"{path}: {len(found)} blocks between markers `begin {block.name}`, expected 1")
    start, stop = found[0].span("content")
    path.write_text(text[:start] + str(block) + text[stop:])


def today() -> str:
    """The date, as in 2026-01-31."""
    return dt.datetime.now(tz=dt.UTC).date().isoformat()


def machine() -> str:
    """What numbers of this machine depend on most."""
    import torch

    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    cores = len(os.sched_getaffinity(0))
    return f"{cores} CPU cores, {' and '.join(gpus) or 'no GPU'}, torch {torch.__version__}"


def make_parser(doc: str | None) -> argparse.ArgumentParser:
    """The options of what writes blocks."""
    made = parser(doc)
    made.add_argument("--readme", type=Path, help=f"file to write into (default: {README.name}; with --small none)")
    return made


def publish(block: Block, options: argparse.Namespace) -> None:
    """Write a block where the command line says."""
    readme = options.readme or (None if options.small else README)
    if readme is not None:
        write_block(readme, block)
