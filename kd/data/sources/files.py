"""Files of a source: which are images, what identifies them, how one is decoded."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd.common.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGE_SUFFIXES = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jif", ".jfif", ".mpo", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
        *(".png", ".apng", ".gif", ".webp", ".avif", ".bmp", ".dib", ".tif", ".tiff", ".tga", ".qoi"),
        *(".ppm", ".pgm", ".pbm", ".pnm", ".pcx", ".sgi"),
    }
)
# Made by systems and programs, not by whoever collected the images; compared in lower case.
SYSTEM_NAMES = frozenset(
    {
        *("__macosx", "icon\r", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin"),
        *("system volume information", "lost+found", "@eadir", "@recycle", "#recycle", "#snapshot", "__pycache__"),
    }
)
LEADS_NOWHERE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}
SHOWN_SUFFIXES = 5

HIDDEN = "hidden files and folders, and those of operating systems, left out"
LOOPS = "links that lead back to a folder above them left out"
SPECIAL = "pipes, sockets and devices left out"


@dataclass(frozen=True)
class Kind:
    """What files of a source are called, known and opened by."""

    name: str
    suffixes: Collection[str]
    open: Callable[..., Any]

    def has(self, name: str) -> bool:
        """Whether a file is of this kind by its name."""
        return name[name.rfind(".") :].lower() in self.suffixes


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden or made by a system: it is no part of a dataset."""
    return name.startswith((".", "~$")) or name.lower() in SYSTEM_NAMES


def readable(path: Path | str) -> str:
    r"""A path as text that can be written anywhere; bytes that are not UTF-8 become `\xe9`."""
    return os.fsencode(path).decode(errors="backslashreplace")


@dataclass
class Found:
    """The files below a folder, and what was left out.

    Attributes:
        files: by path relative to the folder, with `/`, sorted.
        folders: such paths of all folders, sorted.
        lost: links that lead nowhere, by such a path.
        notes: what was left out, in words, and how often.
    """

    files: dict[str, os.stat_result] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)


def find_files(folder: Path) -> Found:
    """All files below a folder but hidden ones and those of systems; links are followed.

    Takes about a second for 100,000 files.

    Raises:
        UserError: a folder or a file cannot be read.
    """
    found = Found()
    try:
        _walk(folder, "", {os.path.realpath(folder)}, found)
    except OSError as error:
        raise UserError(f"{readable(error.filename or folder)}: cannot be read ({error.strerror})") from error
    return Found(dict(sorted(found.files.items())), sorted(found.folders), sorted(found.lost), found.notes)


def _walk(folder: Path | str, prefix: str, above: set[str], found: Found) -> None:
    """Look into one folder.

    Args:
        folder: that is read.
        prefix: of the paths of its files.
        above: true paths of this folder and of those above it, as far as the walk has come through them.
        found: what is filled.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_hidden(entry.name):
                found.notes[HIDDEN] += 1
                continue
            try:
                status = entry.stat()
            except OSError as error:
                if not entry.is_symlink() or error.errno not in LEADS_NOWHERE:
                    raise
                found.lost.append(prefix + entry.name)
                continue
            if stat.S_ISREG(status.st_mode):
                found.files[prefix + entry.name] = status
            elif not stat.S_ISDIR(status.st_mode):
                found.notes[SPECIAL] += 1
            elif (true := os.path.realpath(entry.path)) in above:
                found.notes[LOOPS] += 1
            else:
                found.folders.append(prefix + entry.name)
                _walk(entry.path, f"{prefix}{entry.name}/", above | {true}, found)


def find_kind(folder: Path, kind: Kind) -> Found:
    """As `find_files`, but only files of a kind, by their names; the most frequent endings of other files are noted."""
    found = find_files(folder)
    others = [name for name in found.files if not kind.has(name)]
    if others:
        found.notes[not_of(kind, others)] = len(others)
    for name in others:
        del found.files[name]
    return found


def find_sound(folder: Path, kind: Kind) -> Found:
    """As `find_kind`, but a link that leads nowhere is an error."""
    found = find_kind(folder, kind)
    if found.lost:
        raise UserError(
            f"source.root: {readable(folder)}: {len(found.lost)} links lead nowhere, such as"
            f" {readable(found.lost[0])}; mend or remove them"
        )
    return found


def not_of(kind: Kind, names: Iterable[str]) -> str:
    """The note on files that are of another kind, with the most frequent of their endings."""
    endings = Counter(Path(readable(name)).suffix.lower() or "no ending" for name in names)
    shown = [ending for ending, _ in sorted(endings.items(), key=lambda each: (-each[1], each[0]))]
    more = ", …" if len(shown) > SHOWN_SUFFIXES else ""
    return f"files that are no {kind.name}s by their names left out ({', '.join(shown[:SHOWN_SUFFIXES])}{more})"


def outside(kind: Kind) -> str:
    """The note on files that no class folder holds."""
    return f"{kind.name}s outside of class folders left out"


def files_digest(files: Iterable[tuple[str, os.stat_result]]) -> str:
    """sha256 over path, size and modification time of files, in the order given."""
    digest = hashlib.sha256()
    for name, status in files:
        digest.update(os.fsencode(name) + f"\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def files_fingerprint(root: Path, files: Iterable[Path]) -> str:
    """`files_digest` of some files, whatever their order on disk, by their paths relative to a folder.

    Raises:
        UserError: a file is missing.
    """
    listed = []
    for path in sorted(files):
        try:
            status = path.stat()
        except FileNotFoundError as error:
            raise UserError(f"{readable(path)}: no such file") from error
        except OSError as error:
            raise UserError(f"{readable(path)}: cannot be read ({error.strerror})") from error
        listed.append((str(path.relative_to(root) if path.is_relative_to(root) else path), status))
    return files_digest(listed)


def tree_digest(*parts: Path) -> str:
    """`files_digest` of all that `find_files` finds in some folders, or of files, in whatever order on disk.

    Links to nothing do not count, nor what folder a part lies in.

    Raises:
        UserError: a part is missing or cannot be read.
    """
    found: list[tuple[str, os.stat_result]] = []
    for part in parts:
        try:
            status = part.stat()
        except OSError as error:
            raise UserError(f"source.root: {readable(part)}: cannot be read ({error.strerror})") from error
        if stat.S_ISDIR(status.st_mode):
            found += [(f"{part.name}/{name}", each) for name, each in find_files(part).files.items()]
        else:
            found.append((part.name, status))
    return files_digest(found)


def open_image(path: Path) -> Image:
    """Decode an image, upright; `kd.data.decoding.opaque` makes 8-bit grey or RGB of it.

    Raises:
        UserError: the file cannot be read, is not an image, is damaged, or has another kind of pixels.
    """
    name = readable(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{name}: cannot be read ({error.strerror})") from error
    return image_of(content, name)


def image_of(content: bytes, name: str) -> Image:
    """As `open_image`, of the bytes of an image file that lies in another file.

    Args:
        content: of the image file.
        name: where it lies, for messages.
    """
    from PIL import UnidentifiedImageError

    from kd.data.decoding import MODES, decode

    try:
        image = decode(content)
    except UnidentifiedImageError as error:
        raise UserError(f"{name}: is not an image that can be decoded") from error
    except MemoryError:
        raise
    except Exception as error:  # PIL raises whatever it meets in a damaged file
        raise UserError(f"{name}: damaged image ({str(error) or type(error).__name__})") from error
    if image.mode not in MODES:
        raise UserError(f"{name}: has pixels of mode {image.mode}; expected grey or RGB, of 8 or 16 bits")
    return image


IMAGES = Kind("image", IMAGE_SUFFIXES, open_image)
OUTSIDE = outside(IMAGES)
