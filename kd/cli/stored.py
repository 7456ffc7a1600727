"""What lies in a results folder: artefacts, finished or not."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import Any

from kd.artefacts.job import told_job
from kd.artefacts.manifest import job_record, load_manifest, manifest_path
from kd.artefacts.reading import is_plain_file, is_plain_folder
from kd.common.errors import UserError

_KEY = re.compile(r"[0-9a-f]{16}")
DECIMAL, BINARY = ("B", "kB", "MB", "GB", "TB"), ("B", "KiB", "MiB", "GiB", "TiB")


@dataclass(frozen=True)
class Stored:
    """One artefact directory, RESULTS/STAGE/NAME/KEY.

    Attributes:
        directory: where it is.
        manifest: None as long as it is not finished.
        record: what it is made by: its manifest, else what its job was told, else None.
    """

    directory: Path
    manifest: dict[str, Any] | None
    record: dict[str, Any] | None

    @property
    def key(self) -> str:
        """The key, which the directory is named by."""
        return self.directory.name

    @property
    def title(self) -> str:
        """Stage, name and key."""
        return "/".join(self.directory.parts[-3:])

    @property
    def finished(self) -> float:
        """The time at which its manifest was written, in seconds since 1970; 0: it is not finished."""
        path = manifest_path(self.directory)
        return path.stat().st_mtime if path else 0.0

    @property
    def upstream_keys(self) -> set[str]:
        """Keys of what it reads."""
        return {str(upstream["key"]) for upstream in (self.record or {}).get("upstream", {}).values()}

    @property
    def adopted_key(self) -> str | None:
        """Key of what it was adopted from."""
        adopted = (self.manifest or {}).get("adopted")
        return str(adopted["from"]) if adopted else None


def stored_at(directory: Path) -> Stored:
    """The contents of an artefact directory; a manifest that cannot be read counts as none."""
    try:
        manifest = load_manifest(directory)
    except UserError:
        manifest = None
    told = told_job(directory) if manifest is None else None
    return Stored(directory, manifest, job_record(told) if told is not None else manifest)


def stored_in(results: Path, stage: str = "*", name: str = "*") -> Iterator[Stored]:
    """All artefact directories of a results folder, or of one stage and name."""
    for directory in _artefact_folders(results, stage, name):
        if all(map(is_plain_folder, (directory, *directory.parents[:2]))):
            yield stored_at(directory)


def links_in(results: Path) -> Iterator[Path]:
    """Links in the place of an artefact or of a folder of artefacts; they are left alone."""
    found: dict[Path, None] = {}
    for directory in _artefact_folders(results, "*", "*"):
        found |= dict.fromkeys(each for each in (*reversed(directory.parents[:2]), directory) if each.is_symlink())
    yield from (each for each in found if not found.keys() & set(each.parents))


def _artefact_folders(results: Path, stage: str, name: str) -> list[Path]:
    found = sorted(results.glob(f"{stage}/{name}/*"))
    return [each for each in found if _KEY.fullmatch(each.name) and each.is_dir()]


def disk_usage(path: Path) -> int:
    """Bytes of a file, or of all files below a folder; those that other artefacts share are left out."""
    found = [path] if is_plain_file(path) else path.rglob("*")
    return sum(status.st_size for status in map(Path.lstat, found) if S_ISREG(status.st_mode) and status.st_nlink == 1)


def readable_size(count: float, units: tuple[str, ...] = DECIMAL) -> str:
    """Bytes for people, in DECIMAL or BINARY units."""
    step = 1000 if units is DECIMAL else 1024
    for unit in units:
        if count < step or unit == units[-1]:
            break
        count /= step
    return f"{count:.0f} {unit}" if unit == units[0] else f"{count:.1f} {unit}"


def readable_time(seconds: float) -> str:
    """Local date and time for people."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
