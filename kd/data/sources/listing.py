"""Files of a source: which are images, what identifies them, how one is decoded."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from kd.jobs.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})


def is_image(path: Path) -> bool:
    """Whether a file counts as an image by its name; hidden files never do."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def listing_digest(root: Path, files: Iterable[Path]) -> str:
    """sha256 over relative path, size and modification time of files, whatever their order on disk.

    Raises:
        UserError: a file is missing.
    """
    digest = hashlib.sha256()
    for path in sorted(files):
        try:
            status = path.stat()
        except FileNotFoundError as error:
            raise UserError(f"{path}: no such image file") from error
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from error
        name = path.relative_to(root) if path.is_relative_to(root) else path
        digest.update(_line(str(name), status))
    return digest.hexdigest()


def tree_digest(*parts: Path) -> str:
    """sha256 over path, size and modification time of all files in some folders, or of files, in whatever order.

    Takes about a second for 100,000 files. Hidden files and folders do not count, nor links to nothing, nor what folder
    a part lies in.

    Raises:
        UserError: a part is missing or cannot be read.
    """
    digest = hashlib.sha256()
    for part in parts:
        try:
            files = sorted(_files(part, part.name)) if part.is_dir() else [(part.name, part.stat())]
        except OSError as error:
            raise UserError(f"source.root: {error.filename}: cannot be read ({error.strerror})") from error
        for name, status in files:
            digest.update(_line(name, status))
    return digest.hexdigest()


def _files(folder: Path | str, name: str) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _files(entry.path, f"{name}/{entry.name}")
            else:
                try:
                    status = entry.stat()
                except FileNotFoundError:
                    continue
                yield f"{name}/{entry.name}", status


def _line(name: str, status: os.stat_result) -> bytes:
    return os.fsencode(name) + f"\0{status.st_size}\0{status.st_mtime_ns}\n".encode()


def open_image(path: Path) -> Image:
    """Decode a picture to RGB or 8-bit grey; 16-bit grey is scaled to 8 bits.

    Raises:
        UserError: the file is not an image, is cut short, or has another kind of pixels.
    """
    import numpy as np
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            image.load()
            upright = ImageOps.exif_transpose(image)
    except UnidentifiedImageError as error:
        raise UserError(f"{path}: is not an image that can be decoded") from error
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: damaged image ({error})") from error
    if upright.mode.startswith("I;16"):
        upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
    elif upright.mode in ("I", "F"):
        raise UserError(f"{path}: has pixels of mode {upright.mode}, whose range is unknown; expected 8 or 16 bits")
    return upright if upright.mode == "L" else upright.convert("RGB")
