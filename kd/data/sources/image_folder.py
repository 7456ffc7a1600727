"""`image_folder`: a folder of class folders, optionally below folders for the splits."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from kd.common.errors import UserError
from kd.common.options import BaseOptions, expected
from kd.data.sources.base import SPLITS, Listing, Sample, split_of
from kd.data.sources.files import Found, files_digest, find_images, open_image, readable

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


class ImageFile(NamedTuple):
    """An image of the folder: `name` is its path relative to the root, with `/`."""

    name: str
    label: str
    split: str | None
    status: os.stat_result


def fingerprint(options: Options) -> dict[str, Any]:
    """Digest of the listing: relative path, size and modification time of every image."""
    images, _ = _images(options)
    return {"listing": files_digest((image.name, image.status) for image in images)}


def read(options: Options) -> Listing:
    """One class per folder, named like the folder; ids are paths relative to the root."""
    images, notes = _images(options)
    return Listing(
        [
            Sample(
                id=readable(image.name),
                labels=(readable(image.label),),
                open=partial(open_image, options.root / image.name),
                split=image.split,
            )
            for image in images
        ],
        notes,
    )


def _images(options: Options) -> tuple[list[ImageFile], dict[str, int]]:
    """Every image, sorted by name, and what was left out."""
    root, shown = options.root, readable(options.root)
    if not root.is_dir():
        raise UserError(f"source.root: {shown} is not a folder; expected a folder of class folders")
    found = find_images(root)
    if found.lost:
        raise UserError(
            f"source.root: {shown}: {len(found.lost)} links lead nowhere, such as {readable(found.lost[0])}; mend or"
            " remove them"
        )
    splits = _splits(options, found.folders)
    classes = _class_folders(found, splits, shown)
    images, filled = [], set()
    for name, status in found.files.items():
        parts = name.split("/", 1 + bool(splits))
        folder = "/".join(parts[:-1])
        if folder in classes:
            images.append(ImageFile(name, parts[-2], splits.get(parts[0]), status))
            filled.add(folder)
    empty = sorted(classes - filled)
    if empty:
        said = "".join(f"; {what}: {count}" for what, count in found.notes.items())
        raise UserError(
            f"source.root: class folder {shown}/{readable(empty[0])} holds no images; remove it or fill it{said}"
        )
    outside = len(found.files) - len(images)
    return images, dict(found.notes) | ({OUTSIDE: outside} if outside else {})


def _class_folders(found: Found, splits: dict[str, str], root: str) -> set[str]:
    """The folders that are classes, those of one name in several splits each for itself."""
    if not splits:
        folders = {name for name in found.folders if "/" not in name}
        if not folders:
            raise UserError(f"source.root: {root} holds no class folders; expected one folder per class")
        return folders
    folders = {name for name in found.folders if name.count("/") == 1}
    bare = splits.keys() - {name.split("/")[0] for name in folders}
    if bare:
        raise UserError(
            f"source.root: {root}/{readable(min(bare))} holds no class folders; expected one folder per class"
        )
    return folders


def _splits(options: Options, tree: list[str]) -> dict[str, str]:
    """The split that each folder in the root is; empty: they are classes.

    Args:
        options: of the source.
        tree: paths of all folders below the root.

    Raises:
        UserError: they are not clearly the one or the other.
    """
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
