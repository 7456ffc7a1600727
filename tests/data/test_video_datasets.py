"""UCF101, HMDB51, ActivityNet and Kinetics: what is peculiar to each of them, and faults of their lists."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from kd.common.errors import UserError
from kd.data.video import Video
from tests.data.test_video_sources import digest, notes_of, read, splits_of
from tests.data.video_layouts import (
    ACTIONS,
    FILMS,
    FLAGS,
    VIDEO_MAKERS,
    activitynet_database,
    activitynet_id,
    annotated,
    hmdb51_names,
    is_test,
    kinetics_clip,
    make_activitynet,
    make_hmdb51,
    make_kinetics,
    make_ucf101,
    touch,
    ucf101_names,
)

# UCF101


@pytest.mark.parametrize("fold", [1, 2, 3])
@pytest.mark.parametrize("place", ["UCF-101/", "", "data/videos/"])
def test_ucf101__folds_are_those_of_the_lists(tmp_path: Path, place: str, fold: int) -> None:
    listing = read("ucf101", make_ucf101(tmp_path, place), fold=fold)
    assert splits_of(listing) == {name: "test" if is_test(name, fold) else "train" for name in ucf101_names()}
    assert {sample.labels[0] for sample in listing.samples} == set(ACTIONS)
    assert notes_of(listing) == {}
    groups = Counter(sample.group for sample in listing.samples)
    assert groups["Hammering/g01"] == 3
    assert groups["HandstandPushups/g02"] == 4
    assert len(groups) == 48


def test_ucf101__handstand_pushups_in_one_folder_with_a_small_s(tmp_path: Path) -> None:
    root = make_ucf101(tmp_path)
    shutil.rmtree(root / "UCF-101")
    touch(root / "UCF101", [name.split("/")[1] for name in ucf101_names(listed=False)])
    samples = {sample.id: sample for sample in read("ucf101", root).samples}
    assert set(samples) == set(ucf101_names())
    pushup = samples["HandstandPushups/v_HandStandPushups_g01_c01.avi"]
    assert pushup.labels == ("HandstandPushups",)
    assert pushup.open() == Video(root / "UCF101/v_HandstandPushups_g01_c01.avi")


def test_ucf101__says_what_a_part_lacks_to_the_official_counts(tmp_path: Path) -> None:
    listing = read("ucf101", make_ucf101(tmp_path))
    splits = Counter(sample.split for sample in listing.samples)
    assert listing.notes == {
        "classes fewer than the official 101": 97,
        "videos of train fewer than the official 9,537": 9537 - splits["train"],
        "videos of test fewer than the official 3,783": 3783 - splits["test"],
    }


# HMDB51


@pytest.mark.parametrize("fold", [1, 2, 3])
def test_hmdb51__flags_are_train_test_and_neither(tmp_path: Path, fold: int) -> None:
    listing = read("hmdb51", make_hmdb51(tmp_path), fold=fold)
    expected, unused = {}, 0
    for label, films in FILMS.items():
        for name, film in hmdb51_names(label).items():
            flag = FLAGS[fold][films.index(film)]
            unused += flag == "0"
            if flag != "0":
                expected[f"{label}/{name}"] = ({"1": "train", "2": "test"}[flag], (label,), film)
    assert {sample.id: (sample.split, sample.labels, sample.group) for sample in listing.samples} == expected
    said = {"videos that their lists have in neither train nor test left out": unused} if unused else {}
    assert notes_of(listing) == said
    assert all(sample.open().path == tmp_path / "hmdb51_org" / sample.id for sample in listing.samples)


# ActivityNet


def test_activitynet__untrimmed_videos_have_their_first_label(tmp_path: Path) -> None:
    database = activitynet_database()
    first = activitynet_id(1)
    database[first]["annotations"].append(annotated("Zumba", 20, 22))
    database[activitynet_id(2)]["annotations"] = []
    listing = read("activitynet", make_activitynet(tmp_path, database))
    labels = {sample.id: sample.labels for sample in listing.samples}
    assert labels[first] == ("Baking cookies",)
    assert Counter(sample.split for sample in listing.samples) == {"train": 44, "test": 15}
    assert all(sample.group == sample.id for sample in listing.samples)
    assert all(sample.split == "test" for sample in listing.samples if database[sample.id]["subset"] == "validation")
    assert notes_of(listing) == {
        "videos that their lists have in neither train nor test left out": 4,
        "videos without a label dropped": 1,
        "videos with further labels, of which the first counts": 1,
    }
    assert listing.notes["videos of train fewer than the official 10,024"] == 10_024 - 44


def test_activitynet__trimmed_videos_are_segments(tmp_path: Path) -> None:
    database = activitynet_database()
    odd, bad = activitynet_id(1), activitynet_id(2)
    odd_ones = [(0, 0), (9, 4), (-1, 5), (30, 31), (2, 40), (2, 30.9), (0, 3), (0, 3)]
    database[odd]["annotations"] = [annotated("Zumba", *times) for times in odd_ones]
    database[bad]["annotations"] = [annotated("Zumba", 0, 0)]
    listing = read("activitynet", make_activitynet(tmp_path, database), clips="trimmed")
    videos = {sample.id: sample.open() for sample in listing.samples}
    assert {name: (video.start, video.end) for name, video in videos.items() if name.startswith(odd)} == {
        f"{odd}/5": (2, 30.9),
        f"{odd}/6": (0, 3),
    }
    assert len(videos) == 58 * 2 + 2
    assert {sample.group for sample in listing.samples} == {
        name for name in database if database[name]["annotations"]
    } - {bad}
    assert notes_of(listing) == {
        "videos that their lists have in neither train nor test left out": 4,
        "segments that are empty or not within their videos left out": 6,
        "segments that are annotated twice left out": 1,
    }
    videos[f"{odd}/5"].path.unlink()
    assert read("activitynet", tmp_path, clips="trimmed", missing="skip").notes["missing videos skipped"] == 1
    assert digest("activitynet", tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"database": []}, "database: Input should be an object"),
        ({"database": {"a": {"subset": "training"}}}, "database.a.duration: Field required"),
        (
            {"database": {"a": {"subset": "train", "duration": 1, "annotations": []}}},
            "database.a.subset: Input should be",
        ),
        (
            {"database": {"a": {"subset": "training", "duration": 1, "annotations": [{"label": "x", "segment": [1]}]}}},
            "database.a.annotations.0.segment.1: Field required",
        ),
        (
            {"database": {"a": {"subset": "training", "duration": "1 s", "annotations": []}}},
            "database.a.duration: Input should be a valid number",
        ),
        ({}, "database: Field required"),
        ("{", "Invalid JSON"),
        ("<html>404</html>", "Invalid JSON"),
    ],
)
def test_activitynet__broken_annotations(tmp_path: Path, change: Any, said: str) -> None:
    root = make_activitynet(tmp_path)
    text = change if isinstance(change, str) else json.dumps(change)
    (root / "activity_net.v1-3.min.json").write_text(text)
    with pytest.raises(UserError, match=f"min.json: is not as that of ActivityNet: .*{re.escape(said)}") as raised:
        read("activitynet", root)
    assert len(str(raised.value).splitlines()) == 1


def test_activitynet__the_file_may_be_said_itself(tmp_path: Path) -> None:
    root = make_activitynet(tmp_path)
    file = (root / "activity_net.v1-3.min.json").rename(tmp_path / "mine.json")
    assert len(read("activitynet", root, annotations=file).samples) == 60
    with pytest.raises(UserError, match=r"gone.json: cannot be read \(No such file"):
        read("activitynet", root, annotations=tmp_path / "gone.json")


# Kinetics


def test_kinetics__validation_is_test_and_clips_of_a_video_are_a_group(tmp_path: Path) -> None:
    listing = read("kinetics", make_kinetics(tmp_path))
    assert Counter(sample.split for sample in listing.samples) == {"train": 24, "test": 2}
    assert listing.notes == {"videos that their lists have in neither train nor test left out": 1}
    samples = {sample.id: sample for sample in listing.samples}
    drumming = samples[kinetics_clip("_b000000003", 1003)]
    assert (drumming.labels, drumming.group) == (("air drumming",), "_b000000003")
    for path in sorted(tmp_path.rglob("*.mp4")):
        path.rename(tmp_path / path.name)
    assert splits_of(read("kinetics", tmp_path)) == splits_of(listing)


def test_kinetics__one_list_alone_and_columns_in_another_order(tmp_path: Path) -> None:
    root = make_kinetics(tmp_path)
    file = tmp_path / "mine.csv"
    file.write_text("split,time_end,time_start,youtube_id,label\r\ntrain,20,10,-a000000001,abseiling\r\n")
    (sample,) = read("kinetics", root, annotations=file).samples
    assert (sample.id, sample.labels, sample.split) == ("-a000000001_000010_000020", ("abseiling",), "train")


# Faults of lists


ROW = "abseiling,-a000000001,10,20,train\n"


@pytest.mark.parametrize(
    ("name", "file", "text", "said"),
    [
        (
            "ucf101",
            "ucfTrainTestlist/trainlist01.txt",
            "v_Archery_g08_c01.avi 3",
            "line 1: is 'v_Archery_g08_c01.avi 3', exp",
        ),
        (
            "ucf101",
            "ucfTrainTestlist/trainlist01.txt",
            "Archery/v_Archery.avi 3",
            r"expected a line such as Archery/v_Arch",
        ),
        (
            "ucf101",
            "ucfTrainTestlist/testlist01.txt",
            "a b c",
            "testlist01.txt, line 1: is 'a b c', expected a line such as",
        ),
        ("ucf101", "ucfTrainTestlist/testlist01.txt", "", "testlist01.txt, line 1: is empty"),
        (
            "ucf101",
            "ucfTrainTestlist/testlist01.txt",
            None,
            "holds no testlist01.txt; say in source.annotations where it is",
        ),
        (
            "hmdb51",
            "testTrainMulti_7030_splits/kick_test_split1.txt",
            "a.avi 3 ",
            "line 1: is 'a.avi 3', expected the name",
        ),
        (
            "hmdb51",
            "testTrainMulti_7030_splits/kick_test_split1.txt",
            "a.avi",
            "line 1: is 'a.avi', expected the name of a",
        ),
        ("hmdb51", "testTrainMulti_7030_splits/kick_test_split1.txt", b"\xff 1", "line 1: is not text in UTF-8"),
        (
            "kinetics",
            "annotations/train.csv",
            "youtube_id,label\n",
            r"train.csv: has the columns \['youtube_id', 'label'\], ex",
        ),
        (
            "kinetics",
            "annotations/train.csv",
            f"label,youtube_id,time_start,time_end,split\n{ROW}{ROW}",
            "line 3: .*listed tw",
        ),
        (
            "kinetics",
            "annotations/train.csv",
            "label,youtube_id,time_start,time_end,split\na,b,1.5,2,train",
            "line 2: is .*'1.5'",
        ),
        (
            "kinetics",
            "annotations/train.csv",
            "label,youtube_id,time_start,time_end,split\na,b,1,2,holdout",
            "line 2: is .*'hold",
        ),
        (
            "kinetics",
            "annotations/train.csv",
            "label,youtube_id,time_start,time_end,split\n,b,1,2,train",
            "line 2: is .*expected",
        ),
    ],
)
def test_lists__faults_name_the_line(tmp_path: Path, name: str, file: str, text: str | bytes | None, said: str) -> None:
    root = VIDEO_MAKERS[name](tmp_path)
    (root / file).unlink()
    if text is not None:
        (root / file).write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(UserError, match=said) as raised:
        read(name, root)
    assert len(str(raised.value).splitlines()) == 1


def test_lists__two_copies_are_told(tmp_path: Path) -> None:
    root = make_ucf101(tmp_path)
    expected = splits_of(read("ucf101", root))
    shutil.copytree(root / "ucfTrainTestlist", root / "copy")
    with pytest.raises(
        UserError, match=r"line 1: .* is listed twice, first in .*; remove one, or say source.duplicates"
    ):
        read("ucf101", root)
    merged = read("ucf101", root, duplicates="merge")
    assert splits_of(merged) == expected
    assert merged.notes["duplicates merged"] == len(expected)
    assert splits_of(read("ucf101", root, annotations=root / "copy")) == expected
