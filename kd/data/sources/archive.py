"""`archive`: class folders in a zip or tar file, which is read as it is and not unpacked.

It means the same as the unpacked folder does to `image_folder`. What kind of archive it is goes by its content. A
folder that holds all others, as in a zip file of a folder, is looked through, unless it is called after a split. Left
out are also links, members whose paths lead out of the archive, and those that a later one of the same name replaces.
An archive that is cut short or damaged is an error, and so is an image that is encrypted, unpacks to another size than
the archive says, or has more than 1 GiB. Size and time of the file alone tell that it has changed. Of a compressed tar
file, a job that opens images makes a plain copy among the temporary files (`TMPDIR` says where); of a zip file or a
plain tar file it makes none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from kd.common.options import BaseOptions
from kd.data.sources.base import Listing, split_of
from kd.data.sources.files import HIDDEN, IMAGES, SPECIAL, is_hidden, not_of, readable
from kd.data.sources.image_folder import SplitFolders, Tree, class_listing
from kd.data.sources.members import Member, format_of, member_error, members_of, open_member

LINKS = "links in the archive left out"
ASTRAY = "members whose paths lead out of the archive left out"
REPLACED = "members that a later one of the same name replaces left out"


class Options(BaseOptions):
    """The archive, and what its folders are."""

    file: Path
    """A .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz file with class/image.jpg, or train/class/image.jpg with folders for
    val and test beside train."""
    split_folders: SplitFolders = "auto"
    """Whether the top folders are splits (`yes`) or classes (`no`); `auto`: as in `image_folder`."""


def fingerprint(options: Options) -> dict[str, Any]:
    """Size and modification time of the file."""
    format_of(options.file, "source.file")
    status = options.file.stat()
    return {"bytes": status.st_size, "modified": status.st_mtime_ns}


def read(options: Options) -> Listing:
    """One class per folder, named like the folder; ids are paths within the archive, below what is looked through."""
    files, folders, notes = _members(options.file)
    top = _top(files, folders)
    inside = {name.removeprefix(top): member for name, member in files.items() if name.startswith(top)}
    tree = Tree(
        "source.file",
        readable(options.file),
        sorted(name.removeprefix(top) for name in folders if name.startswith(top)),
        sorted(inside),
        notes,
    )
    return class_listing(tree, options.split_folders, lambda name: partial(open_member, options.file, inside[name]))


def _members(file: Path) -> tuple[dict[str, Member], set[str], dict[str, int]]:
    """Images and folders by their paths, and what was left out: what `find_kind` leaves out, and links."""
    files: dict[str, Member] = {}
    folders: set[str] = set()
    hidden: set[str] = set()
    notes: Counter[str] = Counter()
    for member in members_of(file, format_of(file, "source.file")):
        parts = [part for part in member.name.split("/") if part not in ("", ".")]
        if member.name.startswith("/") or ".." in parts:
            notes[ASTRAY] += 1
            continue
        at = next((at for at, part in enumerate(parts) if is_hidden(part)), None)
        if at is not None:
            hidden.add("/".join(parts[: at + 1]))
            continue
        folders.update(_folders_of(parts if member.kind == "folder" else parts[:-1]))
        if member.kind == "file":
            name = "/".join(parts)
            notes[REPLACED] += name in files
            files[name] = member
        elif member.kind != "folder":
            notes[LINKS if member.kind == "link" else SPECIAL] += 1
    notes[HIDDEN] = len(hidden)
    others = [name for name in files if not IMAGES.has(name)]
    if others:
        notes[not_of(IMAGES, others)] = len(others)
    images = {name: member for name, member in files.items() if IMAGES.has(name)}
    for name, member in images.items():
        if member.problem:
            raise member_error(file, name, member.problem)
    return images, folders, dict(+notes)


def _folders_of(parts: list[str]) -> Iterable[str]:
    """The path of a folder and of all above it."""
    return ("/".join(parts[:count]) for count in range(1, len(parts) + 1))


def _top(files: dict[str, Member], folders: set[str]) -> str:
    """The folders above all others, with a `/` at the end: neither classes nor splits, since they hold all images."""
    top = ""
    while True:
        inside = {name.removeprefix(top) for name in folders if name.startswith(top)} - {""}
        first = {name.split("/")[0] for name in inside}
        if len(first) != 1 or any("/" not in name.removeprefix(top) for name in files):
            return top
        (only,) = first
        holds = {name for name in inside if "/" in name}
        images = any(name.removeprefix(top).count("/") == 1 for name in files)
        if not holds or images or split_of(readable(only)):
            return top
        top += f"{only}/"
