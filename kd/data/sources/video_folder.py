"""`video_folder`: a folder of class folders with videos, optionally below folders for the splits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kd.data.sources import image_folder
from kd.data.sources.base import Listing
from kd.data.sources.videos import VIDEOS

MODALITY = "clip"


class Options(image_folder.Options):
    """Paths of the videos."""

    root: Path
    """Either ROOT/class/video.mp4, or ROOT/train/class/video.mp4 with folders for val and test beside train."""


def fingerprint(options: Options) -> dict[str, Any]:
    """Digest of the listing: relative path, size and modification time of every video."""
    return image_folder.fingerprint(options, VIDEOS)


def read(options: Options) -> Listing:
    """One class per folder, named like the folder; ids are paths relative to the root."""
    return image_folder.read(options, VIDEOS)
