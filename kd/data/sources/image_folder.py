"""`image_folder`: a folder of class folders, optionally below `train`, `val` and `test` folders."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any

from kd.data.options import Task
from kd.data.sources.base import Listing, Sample
from kd.data.sources.listing import is_image, listing_digest, open_image
from kd.jobs.errors import UserError
from kd.options import BaseOptions

log = logging.getLogger("kd")

SPLIT_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}

CHANNELS = 3
TASKS: tuple[Task, ...] = ("single_label",)


class Options(BaseOptions):
    """Where the pictures are."""

    root: Path
    """Either ROOT/class/picture.jpg, or ROOT/train/class/picture.jpg with val and test beside train."""


def fingerprint(options: Options) -> dict[str, Any]:
    """Digest of the listing: relative path, size and modification time of every picture."""
    return {"listing": listing_digest(options.root, [path for path, _, _ in _files(options.root)])}


def classes(options: Options) -> list[str] | None:
    """Those of the samples."""
    return None


def read(options: Options) -> Listing:
    """One class per folder, named like the folder; ids are paths relative to the root."""
    return Listing(
        [
            Sample(
                id=path.relative_to(options.root).as_posix(),
                labels=(label,),
                open=partial(open_image, path),
                split=split,
            )
            for path, label, split in _files(options.root)
        ]
    )


def _files(root: Path) -> list[tuple[Path, str, str | None]]:
    """Every picture with its class and, in the layout with split folders, its split."""
    if not root.is_dir():
        raise UserError(f"source.root: {root} is not a folder; expected a folder of class folders")
    folders = {path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")}
    if "train" not in folders:
        return [(path, label, None) for path, label in _class_files(root)]
    if not folders <= SPLIT_FOLDERS.keys():
        others = sorted(folders - SPLIT_FOLDERS.keys())
        raise UserError(f"source.root: {root} has a folder train, so {others} beside it should be val or test")
    return [
        (path, label, SPLIT_FOLDERS[split]) for split in sorted(folders) for path, label in _class_files(root / split)
    ]


def _class_files(root: Path) -> list[tuple[Path, str]]:
    classes = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not classes:
        raise UserError(f"source.root: {root} holds no class folders; expected one folder per class")
    found = []
    for folder in classes:
        files = [path for path in folder.rglob("*") if path.is_file()]
        pictures = [path for path in files if is_image(path)]
        if not pictures:
            raise UserError(f"source.root: class folder {folder} holds no images; remove it or fill it")
        others = [path for path in files if not is_image(path) and not path.name.startswith(".")]
        if others:
            log.warning("%s: %d files are not images by their name and are left out", folder, len(others))
        found += [(path, folder.name) for path in pictures]
    return found
