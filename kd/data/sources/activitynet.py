"""`activitynet`: ActivityNet 1.3: 19,994 untrimmed videos of 200 activities; validation is test here.

Heilbron et al., "ActivityNet: A Large-Scale Video Benchmark for Human Activity Understanding", CVPR 2015. Videos are
v_ID.mp4 or ID.mp4, with the 11 characters by which YouTube knows them. activity_net.v1-3.min.json has for each a
subset, a duration, and annotations: a label and a segment, [start, end] in seconds. Labels of testing are not public.
Of 10,024 videos of training and 4,926 of validation, some are no longer on YouTube.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ValidationError

from kd.common.errors import UserError, first_mistake
from kd.data.sources.base import Listing
from kd.data.sources.clean import ListEntry, read_list
from kd.data.sources.videos import VideoOptions, fingerprint_of, listed_videos
from kd.data.video import ROUNDED

MODALITY = "clip"
fingerprint = fingerprint_of
BY_HAND = (
    "get activity_net.v1-3.min.json and, by the form there, all videos from http://activity-net.org/download.html, and"
    " say the folder of both in source.root"
)

SPLITS = {"training": "train", "validation": "test", "testing": None}
FURTHER = "videos with further labels, of which the first counts"
BAD = "segments that are empty or not within their videos left out"
TWICE = "segments that are annotated twice left out"
OFFICIAL = {
    "untrimmed": {"classes": 200, "train": 10_024, "test": 4926},
    "trimmed": {"classes": 200, "train": 15_410, "test": 7654},
}


class Options(VideoOptions):
    """Where videos and annotations lie, and what a sample is."""

    LISTS = ("activity_net*.json",)

    clips: Literal["untrimmed", "trimmed"] = "untrimmed"
    """`untrimmed`: each video is a sample, with the label of its first annotation; `trimmed`: each segment that is
    annotated is one."""


class _Annotation(BaseModel):
    label: str
    segment: tuple[float, float]


class _Video(BaseModel):
    subset: Literal["training", "validation", "testing"]
    duration: float
    annotations: list[_Annotation]


class _File(BaseModel):
    database: dict[str, _Video]


def read(options: Options) -> Listing:
    """Ids are those of YouTube; with `trimmed`, the number of the annotation is behind it, as in `sJFgo9H6zNo/0`."""
    clips = options.clips
    return listed_videos(options, partial(_listed, clips), OFFICIAL[clips], lambda name: name[-11:])


def _listed(clips: str, file: Path) -> Iterator[ListEntry]:
    try:
        videos = _File.model_validate_json(read_list(file, "source.annotations"), strict=True).database
    except ValidationError as error:
        raise UserError(f"{file}: is not as that of ActivityNet: {': '.join(first_mistake(error))}") from error
    for name, video in videos.items():
        split, labels = SPLITS[video.subset], [each.label for each in video.annotations]
        entry = ListEntry(name, Path(f"v_{name}.mp4"), (), split, f"{file}, video {name}", name)
        if split is None or not labels:
            yield entry
        elif clips == "trimmed":
            yield from _segments(entry, video)
        else:
            yield replace(entry, labels=(labels[0],), note=FURTHER if len(set(labels)) > 1 else "")


def _segments(entry: ListEntry, video: _Video) -> Iterator[ListEntry]:
    seen = set()
    for number, each in enumerate(video.annotations):
        start, end = each.segment
        bad = not (0 <= start < min(end, video.duration) and end <= video.duration + ROUNDED)
        note = BAD if bad else TWICE if each.segment in seen else ""
        seen.add(each.segment)
        part = replace(entry, id=f"{entry.id}/{number}", labels=(each.label,), part=each.segment)
        yield replace(part, note=note, split=None) if note else part
