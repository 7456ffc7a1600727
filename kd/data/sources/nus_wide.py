r"""`nus_wide`: NUS-WIDE with its official lists: 161,789 + 107,859 images, 81 concepts.

Chua et al., "NUS-WIDE: a real-world web image database from National University of Singapore", CIVR 2009. Below
`root`: ImageList/{Train,Test}Imagelist.txt, with lines such as `actor\0001_2124494179.jpg`; Concepts81.txt;
TrainTestLabels/Labels_airport_Train.txt, with 0 or 1 for each line of the list; Flickr/actor/0001_2124494179.jpg.
Concepts81.txt may also lie in ConceptsList, and TrainTestLabels in Groundtruth, as the archives unpack.

The official files have one fault: line 78,372 of Labels_lake_Train.txt is neither 0 nor 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from kd.common.errors import UserError
from kd.data.sources.base import Listing
from kd.data.sources.clean import ListEntry, ListOptions, clean_list, read_lines, read_list
from kd.data.sources.files import tree_digest

TASKS = ("multi_label",)

PARTS = {"train": "Train", "test": "Test"}


class Options(ListOptions):
    """Paths of the dataset. An unknown label is a number other than 0 and 1; ignored, it counts as 0."""

    root: Path
    """The folder with ImageList, TrainTestLabels, Concepts81.txt and Flickr."""
    unlabelled: Literal["error", "drop", "keep"] = "keep"
    """What is done about images without a label; `keep` is as in L2D: they are images that show none of the
    concepts."""


def fingerprint(options: Options) -> dict[str, Any]:
    """Digest of path, size and modification time of all lists and images."""
    lists, images = options.root / "ImageList", options.root / "Flickr"
    return {"files": tree_digest(lists, _concepts(options), _labels(options), images)}


def read(options: Options) -> Listing:
    """All concepts are listed; ids are paths as in the lists, with slashes: `actor/0001_2124494179.jpg`."""
    concepts = _read_concepts(_concepts(options))
    listed = [each for split in PARTS for each in _listed(options, concepts, split)]
    return clean_list(options.root, listed, options, concepts).listing()


def _concepts(options: Options) -> Path:
    return _first(options.root / "Concepts81.txt", options.root / "ConceptsList" / "Concepts81.txt")


def _read_concepts(file: Path) -> list[str]:
    found: dict[str, int] = {}
    for number, concept in read_lines(file):
        if concept in found:
            raise UserError(f"{file}, line {number}: {concept!r} stands in line {found[concept]}, too; expected once")
        found[concept] = number
    return list(found)


def _labels(options: Options) -> Path:
    return _first(options.root / "TrainTestLabels", options.root / "Groundtruth" / "TrainTestLabels")


def _listed(options: Options, concepts: list[str], split: str) -> Iterator[ListEntry]:
    file = options.root / "ImageList" / f"{PARTS[split]}Imagelist.txt"
    lines = read_lines(file)
    labels: list[list[str]] = [[] for _ in lines]
    for concept in concepts:
        for row, label in _column(options, concept, PARTS[split], len(lines)):
            labels[row].append(label)
    for (number, line), names in zip(lines, labels, strict=True):
        path = line.replace("\\", "/")
        yield ListEntry(path, options.root / "Flickr" / path, tuple(names), split, f"{file}, line {number}")


def _column(options: Options, concept: str, part: str, rows: int) -> Iterator[tuple[int, str]]:
    """Rows that a concept's file says something of but 0: the concept for 1, else what stands there."""
    file = _labels(options) / f"Labels_{concept}_{part}.txt"
    values = read_list(file).split()
    if len(values) != rows:
        raise UserError(f"{file}: has {len(values)} lines, expected {rows}, one for each image of the list")
    for row, value in enumerate(values):
        if value != "0":
            yield row, concept if value == "1" else f"{value} ({file.name}, line {row + 1})"


def _first(*paths: Path) -> Path:
    """The first path that is there, or else the first."""
    return next((path for path in paths if path.exists()), paths[0])
