"""`image_folder`: a folder of class folders, optionally below folders for the splits."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from kd.common.errors import UserError
from kd.common.options import BaseOptions, expected
from kd.data.sources.base import SPLITS, Listing, Sample, split_of
from kd.data.sources.files import files_digest, find_images, open_image, readable

CHANNELS = 3
TASKS = ("single_label",)

OUTSIDE = "images outside of class folders left out"
SHOWN = 3


class Options(BaseOptions):
    """Paths of the images."""

    root: Path
    """Either ROOT/class/image.jpg, or ROOT/train/class/image.jpg with folders for val and test beside train."""
    split_folders: Annotated[bool | Literal["auto"], expected("yes, no or auto")] = "auto"
    """Whether the folders in ROOT are splits (yes) or classes (no). auto: they are splits if their names say so, such
    as `train`, `Training`, `valid`, `dev`, `test_set`; where only some of the names do, it is an error."""


def fingerprint(options: Options) -> dict[str, Any]:
    """Digest of the listing: relative path, size and modification time of every image."""
    return {"listing": files_digest(_list(options)[1].items())}


def read(options: Options) -> Listing:
    """One class per folder, named like the folder; ids are paths relative to the root."""
    return _list(options)[0]


def _list(options: Options) -> tuple[Listing, dict[str, os.stat_result]]:
    """Every image, sorted by name, and what was left out; and the files by their paths below the root."""
    shown = readable(options.root)
    if not options.root.is_dir():
        raise UserError(f"source.root: {shown} is not a folder; expected a folder of class folders")
    found = find_images(options.root)
    if found.lost:
        raise UserError(
            f"source.root: {shown}: {len(found.lost)} links lead nowhere, such as {readable(found.lost[0])}; mend or"
            " remove them"
        )
    splits = _splits(options, found.folders)
    classes = _class_folders(options.root, found.folders, splits)
    samples, files, filled = [], {}, set()
    for name, status in found.files.items():
        parts = name.split("/", 1 + bool(splits))
        folder = "/".join(parts[:-1])
        if folder in classes:
            opened = partial(open_image, options.root / name)
            samples.append(Sample(readable(name), (readable(parts[-2]),), opened, splits.get(parts[0])))
            files[name] = status
            filled.add(folder)
    empty = sorted(classes - filled)
    if empty:
        said = "".join(f"; {what}: {count}" for what, count in found.notes.items())
        raise UserError(
            f"source.root: class folder {shown}/{readable(empty[0])} holds no images; remove it or fill it{said}"
        )
    outside = len(found.files) - len(files)
    return Listing(samples, dict(found.notes) | ({OUTSIDE: outside} if outside else {})), files


def _class_folders(root: Path, tree: list[str], splits: dict[str, str]) -> set[str]:
    """The folders that are classes, those of one name in several splits each for itself."""
    depth, parents = (1, {*splits}) if splits else (0, {""})
    folders = {name for name in tree if name.count("/") == depth}
    bare = parents - {name.rpartition("/")[0] for name in folders}
    if bare:
        where = readable(root / min(bare))
        raise UserError(f"source.root: {where} holds no class folders; expected one folder per class")
    return folders


def _splits(options: Options, tree: list[str]) -> dict[str, str]:
    """The split that each folder in the root is, by the paths of all folders below it; empty: they are classes."""
    if options.split_folders is False:
        return {}
    root, folders = readable(options.root), [name for name in tree if "/" not in name]
    splits = {name: split for name in folders if (split := split_of(readable(name)))}
    if not splits and options.split_folders == "auto":
        inside = [name for name in tree if name.count("/") == 1 and split_of(readable(name.split("/")[1]))]
        if inside:
            raise UserError(
                f"source.root: {root}: {readable(inside[0])} looks like a split within a class; expected the folders of"
                " classes in those of splits; or say source.split_folders: no, and it is part of its class"
            )
        return {}
    remedy = "" if options.split_folders is True else "; or say source.split_folders: no, and every folder is a class"
    others = sorted(map(readable, set(folders) - splits.keys()))
    if others:
        named = sorted(splits) or "no folder"
        raise UserError(
            f"source.root: {root} has {named} for splits and beside it {others[:SHOWN]}; expected only folders such as"
            f" train, val and test{remedy}"
        )
    for split in SPLITS:
        names = sorted(name for name in splits if splits[name] == split)
        if len(names) > 1:
            raise UserError(f"source.root: {root}: {names} both mean {split}; merge or rename them{remedy}")
    if "train" not in splits.values():
        raise UserError(f"source.root: {root} has {sorted(splits)}, but no folder for train{remedy}")
    return splits
