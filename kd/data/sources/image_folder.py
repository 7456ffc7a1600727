"""`image_folder`: a folder of class folders, optionally below folders for the splits.

It reads all files that are images by their names (`.jpg`, `.jfif`, `.png`, `.webp`, `.tif`, `.jp2` and so on), at any
depth below a class folder, and follows links; a link that leads nowhere is an error. Left out are hidden files and
folders, those that operating systems make (`Thumbs.db`, `__MACOSX`, `@eaDir`), and files with other endings.

The names of split folders may be in any case: `train` or `training`; `val`, `valid`, `validation`, `dev` or
`development`; `test`, `testing`, `eval` or `evaluation`; also with `set`, `data`, `split`, `images` or a year behind
them, such as `test_set` and `train2017`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from kd.common.errors import UserError
from kd.common.options import BaseOptions, expected
from kd.data.sources.base import SPLITS, Listing, Sample, noted, split_of
from kd.data.sources.files import IMAGES, Found, Kind, files_digest, find_sound, outside, readable

SHOWN = 3

SplitFolders = Annotated[bool | Literal["auto"], expected("yes, no or auto")]


class Options(BaseOptions):
    """Paths of the images."""

    root: Path
    """Folder with class/image.jpg, or train/class/image.jpg with folders for val and test beside train."""
    split_folders: SplitFolders = "auto"
    """Whether the folders in `root` are splits (`yes`) or classes (`no`, also if one of them is called `train`).
    `auto`: they are splits if their names say so; where only some of them have such names, or two mean the same split,
    it is an error that says what to do."""


@dataclass(frozen=True)
class Tree:
    """Folders and the files in them, on disk or in an archive.

    Attributes:
        option: of the source, that names the tree.
        root: of the tree, as messages show it.
        folders: paths below the root of all folders, with `/`.
        images: such paths of all images, or of all files of another kind, sorted.
        notes: what was left out, in words, and how often.
        kind: of these files.
    """

    option: str
    root: str
    folders: list[str]
    images: list[str]
    notes: Mapping[str, int]
    kind: Kind = IMAGES

    def error(self, said: str) -> UserError:
        """What is wrong with it, in words that begin with its root or go on after it."""
        return UserError(f"{self.option}: {said}")


class ClassImage(NamedTuple):
    """An image in a class folder: `name` is its path below the root, with `/`."""

    name: str
    label: str
    split: str | None


def fingerprint(options: Options, kind: Kind = IMAGES) -> dict[str, Any]:
    """Digest of the listing: relative path, size and modification time of every image, or file of another kind."""
    found = _found(options, kind)
    images, _ = class_images(_tree(options, found, kind), options.split_folders)
    return {"listing": files_digest((image.name, found.files[image.name]) for image in images)}


def read(options: Options, kind: Kind = IMAGES) -> Listing:
    """One class per folder, named like the folder; ids are paths relative to the root."""
    tree = _tree(options, _found(options, kind), kind)
    return class_listing(tree, options.split_folders, lambda name: partial(kind.open, options.root / name))


def _found(options: Options, kind: Kind) -> Found:
    root, shown = options.root, readable(options.root)
    if not root.is_dir():
        raise UserError(f"source.root: {shown} is not a folder; expected a folder of class folders")
    return find_sound(root, kind)


def _tree(options: Options, found: Found, kind: Kind) -> Tree:
    return Tree("source.root", readable(options.root), found.folders, list(found.files), found.notes, kind)


def class_listing(tree: Tree, split_folders: SplitFolders, opening: Callable[[str], Callable[[], Any]]) -> Listing:
    """A sample for each of `class_images`, and `opening` makes of its name what opens it."""
    images, notes = class_images(tree, split_folders)
    made = [Sample(readable(each.name), (readable(each.label),), opening(each.name), each.split) for each in images]
    return Listing(made, notes)


def class_images(tree: Tree, split_folders: SplitFolders) -> tuple[list[ClassImage], dict[str, int]]:
    """Every image in a class folder, in the order of the tree, and what was left out.

    Args:
        tree: of class folders, optionally below folders for the splits.
        split_folders: as the option says.

    Raises:
        UserError: it is no such tree, or not clearly one.
    """
    splits = _splits(tree, split_folders)
    classes = _class_folders(tree, splits)
    images, filled = [], set()
    for name in tree.images:
        parts = name.split("/", 1 + bool(splits))
        folder = "/".join(parts[:-1])
        if folder in classes:
            images.append(ClassImage(name, parts[-2], splits.get(parts[0])))
            filled.add(folder)
    empty = sorted(classes - filled)
    if empty:
        where = f"{tree.root}/{readable(empty[0])}"
        raise tree.error(f"class folder {where} holds no {tree.kind.name}s; remove it or fill it{noted(tree.notes)}")
    lost = len(tree.images) - len(images)
    return images, dict(tree.notes) | ({outside(tree.kind): lost} if lost else {})


def _class_folders(tree: Tree, splits: dict[str, str]) -> set[str]:
    """The folders that are classes, those of one name in several splits each for itself."""
    if not splits:
        folders = {name for name in tree.folders if "/" not in name}
        if not folders:
            raise tree.error(f"{tree.root} holds no class folders; expected one folder per class")
        return folders
    folders = {name for name in tree.folders if name.count("/") == 1}
    bare = splits.keys() - {name.split("/")[0] for name in folders}
    if bare:
        raise tree.error(f"{tree.root}/{readable(min(bare))} holds no class folders; expected one folder per class")
    return folders


def _splits(tree: Tree, split_folders: SplitFolders) -> dict[str, str]:
    """The split that each folder in the root is; empty: they are classes.

    Raises:
        UserError: they are not clearly the one or the other.
    """
    if split_folders is False:
        return {}
    root, folders = tree.root, [name for name in tree.folders if "/" not in name]
    splits = {name: split for name in folders if (split := split_of(readable(name)))}
    if not splits and split_folders == "auto":
        inside = [name for name in tree.folders if name.count("/") == 1 and split_of(readable(name.split("/")[1]))]
        if inside:
            raise tree.error(
                f"{root}: {readable(inside[0])} looks like a split within a class; expected the folders of"
                " classes in those of splits; or say source.split_folders: no, and it is part of its class"
            )
        return {}
    remedy = "" if split_folders is True else "; or say source.split_folders: no, and every folder is a class"
    others = sorted(map(readable, set(folders) - splits.keys()))
    if others:
        named = sorted(splits) or "no folder"
        raise tree.error(
            f"{root} has {named} for splits and beside it {others[:SHOWN]}; expected only folders such as"
            f" train, val and test{remedy}"
        )
    for split in SPLITS:
        names = sorted(name for name in splits if splits[name] == split)
        if len(names) > 1:
            raise tree.error(f"{root}: {names} both mean {split}; merge or rename them{remedy}")
    if "train" not in splits.values():
        raise tree.error(f"{root} has {sorted(splits)}, but no folder for train{remedy}")
    return splits
