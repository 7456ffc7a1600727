"""What sources of videos share: which files are videos, and lists that name them, whatever endings they have."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Literal

from kd.common.errors import UserError
from kd.common.options import BaseOptions
from kd.data.sources.base import Listing, Sample
from kd.data.sources.clean import ListEntry, ListOptions, clean_list, some
from kd.data.sources.files import Kind, find_files, only, readable, tree_digest
from kd.data.sources.official import counted
from kd.data.video import Video

SUFFIXES = (".avi", ".mp4", ".mkv", ".webm", ".mov", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp")
VIDEOS = Kind("video", SUFFIXES, Video, "missing")
UNLISTED = "videos that no list names left out"


class VideoOptions(BaseOptions):
    """Where videos and their lists lie. Faults that are no error are counted and logged."""

    LISTS: ClassVar[tuple[str, ...]]
    """Patterns of the names of lists."""

    root: Path
    """A folder with the videos, at any depth. They are known by their names, whatever endings they have."""
    annotations: Path | None = None
    """The folder that the lists lie in, at any depth, or the list, where it is one; `null`: they are in `root`."""
    missing: Literal["error", "skip"] = "error"
    """What is done about videos that are listed but not there. That all are missing is an error in any case."""
    duplicates: Literal["error", "merge"] = "error"
    """What is done about videos that are listed twice; in two splits, it is always an error."""

    def lists(self) -> list[Path]:
        """The files of lists.

        Raises:
            UserError: there is none of a pattern.
        """
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


@dataclass(frozen=True)
class VideoEntry(ListEntry):
    """A video, or the part of it from `start` to `end` in seconds, as a list names it.

    It is left out if it has no labels. A `note` is counted, and says why, or what else there is to say of it.
    """

    group: str | None = None
    start: float | None = None
    end: float | None = None
    note: str = ""

    def identity(self) -> object:
        """A file may have several parts."""
        return super().identity(), self.start, self.end

    def told(self) -> object:
        """Also group and part."""
        return super().told(), self.group, self.start, self.end

    def sample(self) -> Sample:
        """It as a sample, which is not decoded yet."""
        return Sample(self.id, self.labels, partial(Video, self.path, self.start, self.end), self.split, self.group)


def fingerprint_of(options: VideoOptions) -> dict[str, Any]:
    """Digest of path, size and modification time of the lists and of all files in the root."""
    return {"files": tree_digest(options.root, *options.lists())}


def listed_videos(
    options: VideoOptions,
    listed: Callable[[Path], Iterable[VideoEntry]],
    official: Mapping[str, int],
    key: Callable[[str], str] = str,
) -> Listing:
    """The videos of lists that are there; what the root holds beside them is left out and counted.

    Args:
        options: of the source.
        listed: what a list names; files are found by the names in its paths, without endings.
        official: counts, as of `kd.data.sources.official.counted`.
        key: what the names of one video have in common.

    Raises:
        UserError: a fault of the lists that is to be an error, several files may be meant, or no video is left.
    """
    lists, found = options.lists(), find_files(options.root)
    beside = {file.parent for file in lists}
    for name in [name for name in found.files if not VIDEOS.has(name) and (options.root / name).parent in beside]:
        del found.files[name]
    files: dict[str, list[str]] = defaultdict(list)
    for name in only(found, VIDEOS).files:
        files[key(PurePosixPath(name).stem)].append(name)
    entries, named = [], set()
    for each in (each for file in lists for each in listed(file)):
        names = files.get(key(each.path.stem), [])
        if len(names) > 1:
            raise UserError(f"{each.place}: {each.id} may be any of {some([*map(readable, names)])}; keep one of them")
        named.update(names)
        if each.note:
            found.notes[each.note] += 1
        if each.labels:
            entries.append(replace(each, path=options.root / (names[0] if names else each.path)))
    found.notes[UNLISTED] = len(found.files) - len(named)
    faults = ListOptions(missing_images=options.missing, duplicates=options.duplicates)
    clean = clean_list(options.root, entries, faults, None, VIDEOS)
    return counted(replace(clean, notes=clean.notes | dict(+found.notes)).listing(), official, VIDEOS)
