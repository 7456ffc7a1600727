"""What sources of videos share: which files are videos, and lists that name them, whatever endings they have."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Literal

from kd.common.errors import UserError
from kd.data.sources.base import Listing
from kd.data.sources.clean import FaultOptions, ListEntry, ListOptions, clean_list, some
from kd.data.sources.files import Kind, find_files, readable, tree_digest
from kd.data.sources.official import counted
from kd.data.video import Video

SUFFIXES = (".avi", ".mp4", ".mkv", ".webm", ".mov", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp")
VIDEOS = Kind("video", SUFFIXES, Video)
UNLISTED = "videos that no list names left out"
UNUSED = "videos that their lists have in neither train nor test left out"


class VideoOptions(FaultOptions):
    """Where videos and their lists lie. Faults that are no error are counted and logged."""

    LISTS: ClassVar[tuple[str, ...]]
    """Patterns of the names of lists."""

    root: Path
    """A folder with the videos, at any depth. They are known by their names, whatever endings they have."""
    annotations: Path | None = None
    """The folder that the lists lie in, at any depth, or the list, where it is one; `null`: they are in `root`."""

    def lists(self) -> list[Path]:
        """The files of lists. It is a UserError that there is none for one of the patterns."""
        if not self.root.is_dir():
            raise UserError(f"source.root: {readable(self.root)} is not a folder; expected the one with the videos")
        folder = self.annotations or self.root
        if folder.is_file():
            return [folder]
        paths, found = [folder / name for name in find_files(folder).files], []
        for pattern in self.LISTS:
            name = pattern.format_map(dict(self))
            matching = [path for path in paths if fnmatchcase(path.name, name)]
            if not matching:
                raise UserError(f"{readable(folder)}: holds no {name}; say in source.annotations where it is")
            found += matching
        return found


class FoldOptions(VideoOptions):
    """The same, of a dataset with several official divisions."""

    fold: Literal[1, 2, 3] = 1
    """Number of one of the official divisions into train and test."""


def fingerprint_of(options: VideoOptions) -> dict[str, Any]:
    """Digest of path, size and modification time of the lists and of all files in the root."""
    return {"files": tree_digest(options.root, *options.lists())}


def listed_videos(
    options: VideoOptions,
    listed: Callable[[Path], Iterable[ListEntry]],
    official: Mapping[str, int],
    key: Callable[[str], str] = str,
) -> Listing:
    """The videos of lists that are there; further ones that the root holds are left out and counted.

    Args:
        options: of the source. What they do not say to skip or merge is a UserError.
        listed: what a list names. Files are found by name, without ending; entries without a split are left out.
        official: counts, as of `kd.data.sources.official.counted`.
        key: what the names of one video have in common. It is a UserError that several files have it.
    """
    lists, found = options.lists(), find_files(options.root)
    files: dict[str, list[str]] = defaultdict(list)
    for name in filter(VIDEOS.has, found.files):
        files[key(PurePosixPath(name).stem)].append(name)
    entries, named = [], set()
    for each in (each for file in lists for each in listed(file)):
        names = files.get(key(each.path.stem), [])
        if len(names) > 1:
            raise UserError(f"{each.place}: {each.id} may be any of {some([*map(readable, names)])}; keep one of them")
        named.update(names)
        if each.note or each.split is None:
            found.notes[each.note or UNUSED] += 1
        if each.split is not None:
            entries.append(replace(each, path=options.root / (names[0] if names else each.path)))
    found.notes[UNLISTED] = sum(map(len, files.values())) - len(named)
    faults = ListOptions(missing=options.missing, duplicates=options.duplicates, unlabelled="drop")
    clean = clean_list(options.root, entries, faults, None, VIDEOS)
    return counted(replace(clean, notes=clean.notes | dict(+found.notes)).listing(), official, VIDEOS)
