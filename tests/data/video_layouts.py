"""Tiny copies of datasets of videos, laid out as the real ones are, with what is odd in them. Files are empty.

Each function gives the folder that the dataset was unpacked in.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tests.data.official_layouts import write_lines


def touch(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


# UCF101: 4 classes in the order of classInd.txt, which is not that of Python; of fold N, groups 2N - 1 and 2N are test

ACTIONS = ("ApplyEyeMakeup", "Hammering", "HammerThrow", "HandstandPushups")
GROUPS = 12


def ucf101_names(listed: bool = True) -> list[str]:
    """Paths as in the lists; group N has 2 + N % 3 clips. The lists write HandStandPushups in names of files."""
    names = []
    for action in ACTIONS:
        own = "HandStandPushups" if action == "HandstandPushups" and listed else action
        for group in range(1, GROUPS + 1):
            names += [f"{action}/v_{own}_g{group:02}_c{clip:02}.avi" for clip in range(1, 3 + group % 3)]
    return names


def is_test(name: str, fold: int) -> bool:
    return int(name.split("_g")[1][:2]) in (2 * fold - 1, 2 * fold)


def make_ucf101(root: Path, place: str = "UCF-101/") -> Path:
    """Videos in class folders below `place`."""
    touch(root, [f"{place}{name}" for name in ucf101_names()])
    lists = root / "ucfTrainTestlist"
    write_lines(lists / "classInd.txt", [f"{number} {each}" for number, each in enumerate(ACTIONS, 1)], "\r\n")
    for fold in (1, 2, 3):
        names = ucf101_names()
        train = [f"{name} {ACTIONS.index(name.split('/')[0]) + 1}" for name in names if not is_test(name, fold)]
        write_lines(lists / f"trainlist0{fold}.txt", train, "\r\n")
        write_lines(lists / f"testlist0{fold}.txt", [name for name in names if is_test(name, fold)], "\r\n")
    return root


# HMDB51: names of one class begin those of another, films have clips in several classes, and names are odd

FILMS = {
    "brush_hair": (
        "April_09",
        "Haarek_mmen_[_NEW_AUDIO_]_UPDATED!!!!",
        "#35_(Cuts)_+_more;~@",
        "Kick_Off",
        "Day",
        "Run_7",
    ),
    "kick": ("Goal_1_&_2", "kick_ball_for_kids", "Kick_Off", "Best_Of", "Fair_Play", "kick"),
    "kick_ball": ("Goal_1_&_2", "a_kick_b", "Kick_Off", "World_Cup", "Kids", "kick_ball"),
}
FLAGS = {1: "211101", 2: "121110", 3: "112011"}
"""Of the films of a class, in each fold."""


def hmdb51_names(label: str) -> dict[str, str]:
    """The film of each name."""
    tail = f"{label}_f_cm_np1_fr_goo"
    return {f"{film}_{tail}_{clip}.avi": film for film in FILMS[label] for clip in range(2 + len(film) % 3)}


def make_hmdb51(root: Path) -> Path:
    for label, films in FILMS.items():
        touch(root / "hmdb51_org" / label, hmdb51_names(label))
        for fold, flags in FLAGS.items():
            lines = [f"{name} {flags[films.index(film)]} " for name, film in hmdb51_names(label).items()]
            write_lines(root / f"testTrainMulti_7030_splits/{label}_test_split{fold}.txt", lines)
    write_lines(root / "testTrainMulti_7030_splits/README", ["1 is for training"])
    return root


# ActivityNet

ACTIVITIES = ("Archery", "Baking cookies", "Zumba")
ENDINGS = ("v_{}.mp4", "{}.mp4", "v_{}.mkv", "{}.webm")


def activitynet_id(number: int) -> str:
    """11 characters, with beginnings that names of files or options may have, too."""
    begins = ("-", "_", "v_", "a", "0")[number % 5]
    return begins + str(number).zfill(11 - len(begins))


def annotated(label: str, start: float, end: float) -> dict[str, Any]:
    return {"segment": [start, end], "label": label}


def activitynet_database() -> dict[str, Any]:
    """20 videos of each activity, of which 5 are of validation, each with two segments; and 4 of testing."""
    database = {}
    for number in range(64):
        label = ACTIVITIES[number % 3]
        subset = "testing" if number >= 60 else "validation" if number % 4 == 0 else "training"
        segments = [annotated(label, 1.5, 10), annotated(label, 12, 30.4)] if number < 60 else []
        url = f"https://www.youtube.com/watch?v={activitynet_id(number)}"
        database[activitynet_id(number)] = {
            "duration": 30.0,
            "subset": subset,
            "resolution": "320x240",
            "url": url,
            "annotations": segments,
        }
    return database


def make_activitynet(root: Path, database: dict[str, Any] | None = None) -> Path:
    database = activitynet_database() if database is None else database
    taxonomy = [{"parentName": None, "nodeName": "Root", "nodeId": 0, "parentId": None}]
    document = {"database": database, "taxonomy": taxonomy, "version": "VERSION 1.3"}
    touch(root, [f"videos/{ENDINGS[at % 4].format(name)}" for at, name in enumerate(database)])
    (root / "activity_net.v1-3.min.json").write_text(json.dumps(document))
    return root


# Kinetics

HEADER = "label,youtube_id,time_start,time_end,split,is_cc"
CLIPS = {
    "train": [("abseiling", f"-a{number:09d}", 10 * number) for number in range(12)]
    + [("air drumming", f"_b{number:09d}", 1000 + number) for number in range(12)],
    "validate": [(label, f"c{label[0]}{label[1]}00000000"[:11], 417) for label in ("abseiling", "air drumming")],
    "test": [("abseiling", "d0000000000", 5)],
}


def kinetics_clip(name: str, start: int) -> str:
    return f"{name}_{start:06d}_{start + 10:06d}"


def make_kinetics(root: Path) -> Path:
    """Class folders below those of the splits."""
    for split, clips in CLIPS.items():
        folder = {"validate": "val"}.get(split, split)
        rows = [f'"{label}",{name},{start},{start + 10},{split},0' for label, name, start in clips]
        write_lines(root / f"annotations/{folder}.csv", [HEADER, *rows])
        touch(root / folder, [f"{label}/{kinetics_clip(name, start)}.mp4" for label, name, start in clips])
    return root


VIDEO_MAKERS: dict[str, Callable[[Path], Path]] = {
    "ucf101": make_ucf101,
    "hmdb51": make_hmdb51,
    "activitynet": make_activitynet,
    "kinetics": make_kinetics,
}
