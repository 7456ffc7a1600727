"""`video_folder`: a folder of class folders with videos, optionally below folders for the splits, as of images."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from kd.data.sources import image_folder
from kd.data.sources.videos import VIDEOS

MODALITY = "clip"
fingerprint, read = partial(image_folder.fingerprint, kind=VIDEOS), partial(image_folder.read, kind=VIDEOS)


class Options(image_folder.Options):
    """Paths of the videos."""

    root: Path
    """Either ROOT/class/video.mp4, or ROOT/train/class/video.mp4 with folders for val and test beside train."""
