"""The parts of pages that benchmarks write: what is between a pair of markers, and nothing else."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.rows import ROOT, parser

PAGES = (ROOT / "README.md", ROOT / "config/mlfd/README.md", *sorted((ROOT / "docs").glob("*.md")))
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
    made.add_argument(
        "--page", type=Path, help="file to write into (default: the page that has the markers; with --small none)"
    )
    return made


def pages_of(names: Iterable[str], page: Path | None = None) -> dict[str, Path]:
    """The file that each block is written into: the one that has its markers. Ask before hours of measuring.

    Args:
        names: of blocks.
        page: the only file that is looked at; None: `PAGES`.

    Raises:
        SystemExit: a file cannot be read, or the markers of a block are not there exactly once.
    """
    found = {}
    try:
        texts = {each: each.read_text() for each in (PAGES if page is None else (page,))}
        for name in names:
            find_block("".join(texts.values()), name)
            found[name] = next(each for each, text in texts.items() if f"<!-- begin {name} -->" in text)
    except (OSError, ValueError) as error:
        raise SystemExit(f"{'' if page is None else f'--page {page}: '}{error}") from None
    return found


def places_of(options: argparse.Namespace, names: Iterable[str]) -> dict[str, Path]:
    """As the options say: of a small run, whose numbers mean nothing, blocks go to a file that is named, or nowhere."""
    return {} if options.small and options.page is None else pages_of(names, options.page)
