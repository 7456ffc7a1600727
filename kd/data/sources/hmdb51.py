"""`hmdb51`: HMDB51: 6,766 clips of 51 actions, of which each fold has 3,570 in train and 1,530 in test.

Kuehne et al., "HMDB: A Large Video Database for Human Motion Recognition", ICCV 2011. Videos are
kick/Goal_1_&_2_kick_f_cm_np1_fr_goo_2.avi; lists of fold 1 are kick_test_split1.txt and so on, with lines such as
`Goal_1_&_2_kick_f_cm_np1_fr_goo_2.avi 1 `: 1 is train, 2 test, 0 neither. A name begins with that of the film.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kd.common.errors import UserError
from kd.data.sources.base import Listing
from kd.data.sources.clean import ListEntry, read_lines
from kd.data.sources.videos import FoldOptions, fingerprint_of, listed_videos

MODALITY = "clip"
fingerprint = fingerprint_of
BY_HAND = (
    "get hmdb51_org.rar (2 GB) and test_train_splits.rar from"
    " https://serre-lab.clps.brown.edu/resource/hmdb-a-large-human-motion-database, unpack both, and the 51 .rar files"
    " that are in the first, in one folder, and say that in source.root"
)

SPLITS = {"0": None, "1": "train", "2": "test"}
OFFICIAL = {"classes": 51, "train": 3570, "test": 1530}


class Options(FoldOptions):
    """Where videos and lists lie, and which fold is read."""

    LISTS = ("*_test_split{fold}.txt",)


def read(options: Options) -> Listing:
    """Ids are `CLASS/NAME.avi`, with the class that a list is of and the name in it."""
    return listed_videos(options, _listed, OFFICIAL)


def _listed(file: Path) -> Iterator[ListEntry]:
    label = file.name.rpartition("_test_split")[0]
    for line, text in read_lines(file):
        *name, flag = text.rsplit(maxsplit=1)
        place = f"{file}, line {line}"
        if not name or flag not in SPLITS:
            raise UserError(f"{place}: is {text!r}, expected the name of a video, and 0, 1 or 2 behind it")
        path = Path(label, name[0])
        film = path.stem.rpartition(f"_{label}_")[0] or path.stem
        yield ListEntry(str(path), path, (label,), SPLITS[flag], place, film)
