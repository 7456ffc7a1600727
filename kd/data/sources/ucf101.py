"""`ucf101`: UCF101: 13,320 clips of 101 actions; fold 1 has 9,537 in train and 3,783 in test.

Soomro et al., "UCF101: A Dataset of 101 Human Actions Classes From Videos in The Wild", CRCV-TR-12-01, 2012. Videos are
UCF-101/Archery/v_Archery_g01_c01.avi as their archive unpacks, or in one folder as THUMOS has them. Lists of fold 1 are
trainlist01.txt, with lines such as `Archery/v_Archery_g08_c01.avi 3`, and testlist01.txt, with such paths alone. Clips
of a group (g01) are cut from one video. Case does not count: v_HandStandPushups and v_HandstandPushups are the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from kd.common.errors import UserError
from kd.data.sources.base import Listing
from kd.data.sources.clean import ListEntry, read_lines
from kd.data.sources.videos import FoldOptions, fingerprint_of, listed_videos

MODALITY = "clip"
fingerprint = fingerprint_of
BY_HAND = (
    "get UCF101.rar (6.5 GB) and UCF101TrainTestSplits-RecognitionTask.zip from"
    " https://www.crcv.ucf.edu/data/UCF101.php, unpack both in one folder, and say that in source.root"
)

LINE = re.compile(r"(([^/\s]+)/v_[^/\s]+_(g\d+)_c\d+\.\w+)( \d+)?")
SIZES = {1: (9537, 3783), 2: (9586, 3734), 3: (9624, 3696)}


class Options(FoldOptions):
    """Where videos and lists lie, and which fold is read."""

    LISTS = ("trainlist0{fold}.txt", "testlist0{fold}.txt")


def read(options: Options) -> Listing:
    """Ids are paths as in the lists; classes are called as there, but have the numbers that all sources give them."""
    train, test = SIZES[options.fold]
    return listed_videos(options, _listed, {"classes": 101, "train": train, "test": test}, str.casefold)


def _listed(file: Path) -> Iterator[ListEntry]:
    for line, text in read_lines(file):
        found, place = LINE.fullmatch(text), f"{file}, line {line}"
        if found is None:
            raise UserError(f"{place}: is {text!r}, expected a line such as Archery/v_Archery_g01_c01.avi 3")
        path, label, group, _ = found.groups()
        yield ListEntry(path, Path(path), (label,), file.name.partition("list")[0], place, f"{label}/{group}")
