"""`kinetics`: Kinetics (400, 600, 700): clips of about 10 seconds from YouTube; validation is test here.

Kay et al., "The Kinetics Human Action Video Dataset", arXiv:1705.06950, 2017. Lists are CSV files with the columns
label, youtube_id, time_start, time_end and split; clips are 0wR5jVB-WPk_000417_000427.mp4, by id and seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kd.common.errors import UserError
from kd.data.sources.base import Listing
from kd.data.sources.clean import ListEntry, some
from kd.data.sources.csv_manifest import records
from kd.data.sources.videos import VideoOptions, fingerprint_of, listed_videos

MODALITY = "clip"
fingerprint = fingerprint_of
BY_HAND = (
    "get lists and clips from https://github.com/cvdfoundation/kinetics-dataset, unpack them in one folder, and say"
    " that in source.root"
)

COLUMNS = ("label", "youtube_id", "time_start", "time_end", "split")
SPLITS = {"train": "train", "val": "test", "validate": "test", "validation": "test", "test": None}


class Options(VideoOptions):
    """Where clips and lists lie."""

    LISTS = ("*.csv",)


def read(options: Options) -> Listing:
    """Ids are names of clips without their endings."""
    return listed_videos(options, _listed, {})


def _listed(file: Path) -> Iterator[ListEntry]:
    rows = records(file, "youtube_id", "source.annotations")
    _, columns = next(rows)
    if not set(COLUMNS).issubset(columns):
        raise UserError(f"{file}: has the columns {some(columns)}, expected {', '.join(COLUMNS)}")
    for line, row in rows:
        label, name, start, end, word = (row[columns.index(column)] for column in COLUMNS)
        place = f"{file}, line {line}"
        if not (label and name and start.isdecimal() and end.isdecimal() and word in SPLITS):
            raise UserError(f"{place}: is {row}, expected a label, an id, two whole numbers of seconds, and a split")
        clip = f"{name}_{int(start):06d}_{int(end):06d}"
        yield ListEntry(clip, Path(f"{clip}.mp4"), (label,), SPLITS[word], place, name)
