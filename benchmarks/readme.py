"""The parts of a README that benchmarks write: what is between a pair of markers, and nothing else."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.rows import ROOT, parser

README = ROOT / "README.md"
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


def find_block(text: str, name: str) -> re.Match[str]:
    """The block of that name, of which the group `content` is what a command writes.

    Raises:
        ValueError: the markers are not there exactly once.
    """
    found = [match for match in BLOCK.finditer(text) if match["name"] == name]
    if len(found) != 1:
        raise ValueError(f"{len(found)} blocks between markers `begin {name}` and `end {name}`, expected 1")
    return found[0]


def write_block(path: Path, block: Block) -> None:
    """Replace what is between the markers of a block; for errors see `find_block`."""
    text = path.read_text()
    start, stop = find_block(text, block.name).span("content")
    path.write_text(text[:start] + str(block) + text[stop:])


def machine() -> str:
    """What numbers of this machine depend on most."""
    import torch

    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    cores = len(os.sched_getaffinity(0))
    return f"{cores} CPU cores, {' and '.join(gpus) or 'no GPU'}, torch {torch.__version__}"


def make_parser(doc: str | None, names: Sequence[str]) -> argparse.ArgumentParser:
    """The options of what writes blocks: those of every benchmark, some of these names, and the file to write into."""

    def known(name: str) -> str:
        if name not in names:
            raise argparse.ArgumentTypeError(f"{name}, expected one of {', '.join(names)}")
        return name

    made = parser(doc)
    made.add_argument("names", nargs="*", type=known, metavar="NAME", help="(default: all)")
    made.add_argument("--readme", type=Path, help=f"file to write into (default: {README.name}; with --small none)")
    return made


def readme_of(options: argparse.Namespace, names: Iterable[str]) -> Path | None:
    """The file that blocks of these names go to; None: to none. Ask before hours of measuring.

    Raises:
        SystemExit: it cannot be read, or lacks their markers.
    """
    readme: Path | None = options.readme or (None if options.small else README)
    try:
        text = "" if readme is None else readme.read_text()
        for name in names if readme is not None else ():
            find_block(text, name)
    except (OSError, ValueError) as error:
        raise SystemExit(f"--readme {readme}: {error}") from None
    return readme
