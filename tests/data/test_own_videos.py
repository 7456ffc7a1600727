"""Videos of one's own: class folders, and a CSV list."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kd.artefacts.code import reachable
from kd.common.errors import UserError
from kd.data.modalities.clip import Samples
from kd.data.sources import image_folder, video_folder, video_manifest
from kd.data.sources.base import Listing, load_source
from kd.data.video import Video
from tests.data.layouts import draw_image
from tests.data.video_layouts import touch
from tests.data.videos import STEP, flat, write_video


@pytest.mark.parametrize(
    ("name", "tasks"), [("video_folder", ("single_label",)), ("video_manifest", ("single_label", "multi_label"))]
)
def test_sources__are_of_clips(name: str, tasks: tuple[str, ...]) -> None:
    source = load_source(name)
    assert ("clip", 3, tasks) == (source.MODALITY, source.CHANNELS, source.TASKS)


# Folders


def folder(root: Path, **options: Any) -> Listing:
    return video_folder.read(video_folder.Options(root=root, **options))


def test_video_folder__classes_are_folders_with_and_without_splits(tmp_path: Path) -> None:
    touch(tmp_path / "one", ["jump/a.mp4", "jump/deep/b.MOV", "run [1]/-c.webm"])
    touch(tmp_path / "one", ["jump/notes.txt", "jump/frame.jpg", "jump/.d.mp4", "e.avi"])
    listing = folder(tmp_path / "one")
    assert {sample.id: (sample.labels, sample.split, sample.group) for sample in listing.samples} == {
        "jump/a.mp4": (("jump",), None, None),
        "jump/deep/b.MOV": (("jump",), None, None),
        "run [1]/-c.webm": (("run [1]",), None, None),
    }
    assert listing.samples[0].open() == Video(tmp_path / "one" / listing.samples[0].id)
    assert listing.notes == {
        "files that are no videos by their names left out (.jpg, .txt)": 2,
        "hidden files and folders, and those of operating systems, left out": 1,
        "videos outside of class folders left out": 1,
    }
    touch(tmp_path / "two", [f"{split}/{label}/x.mkv" for split in ("Training", "val", "test") for label in ("a", "b")])
    assert sorted({(sample.labels[0], str(sample.split)) for sample in folder(tmp_path / "two").samples}) == [
        (label, split) for label in ("a", "b") for split in ("test", "train", "val")
    ]
    assert {sample.split for sample in folder(tmp_path / "two", split_folders=False).samples} == {None}


def test_video_folder__a_class_without_videos_and_links_that_lead_nowhere_are_errors(tmp_path: Path) -> None:
    touch(tmp_path, ["jump/a.mp4", "run/a.jpg"])
    with pytest.raises(UserError, match=r"class folder .*run holds no videos; remove it or fill it"):
        folder(tmp_path)
    (tmp_path / "run/b.mp4").symlink_to(tmp_path / "gone.mp4")
    with pytest.raises(UserError, match=r"1 links lead nowhere, such as run/b.mp4"):
        video_folder.fingerprint(video_folder.Options(root=tmp_path))
    with pytest.raises(UserError, match=r"^source.root: .*none is not a folder"):
        folder(tmp_path / "none")


def test_video_folder__fingerprint_is_of_videos_and_image_folder_of_images(tmp_path: Path) -> None:
    touch(tmp_path, ["jump/a.mp4", "run/b.mp4"])
    before = video_folder.fingerprint(video_folder.Options(root=tmp_path))
    for label in ("jump", "run"):
        draw_image(tmp_path / label / "frame.png")
    assert video_folder.fingerprint(video_folder.Options(root=tmp_path)) == before
    touch(tmp_path, ["run/c.mp4"])
    assert video_folder.fingerprint(video_folder.Options(root=tmp_path)) != before
    images = image_folder.read(image_folder.Options(root=tmp_path))
    assert {sample.id for sample in images.samples} == {"jump/frame.png", "run/frame.png"}
    assert images.notes == {"files that are no images by their names left out (.mp4)": 3}


# CSV


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    touch(tmp_path, ["a.mp4", "b.avi", "deep/c.mkv"])
    return tmp_path


def options(folder: Path, text: str, **more: Any) -> video_manifest.Options:
    (folder / "list.csv").write_text(text)
    return video_manifest.Options(csv=folder / "list.csv", **more)


def manifest(folder: Path, text: str, **more: Any) -> Listing:
    return video_manifest.read(options(folder, text, **more))


def test_video_manifest__rows_are_videos(videos: Path) -> None:
    listing = manifest(videos, "path;label;split\na.mp4;jump;train\nb.avi;run fast;TEST\ndeep/c.mkv;jump;dev\n")
    assert [(sample.id, sample.labels, sample.split) for sample in listing.samples] == [
        ("a.mp4", ("jump",), "train"),
        ("b.avi", ("run fast",), "test"),
        ("deep/c.mkv", ("jump",), "val"),
    ]
    assert [sample.open() for sample in listing.samples] == [Video(videos / sample.id) for sample in listing.samples]
    assert listing.notes == {}


PARTS = """path,label,group,start,end
a.mp4,jump,,0,2.5
./a.mp4,run,,2.5,
a.mp4,run,,,7
b.avi,jump,anna,,
b.avi,run,anna,1e1,12
"""


def test_video_manifest__parts_of_a_video_are_one_group(videos: Path) -> None:
    first, second, *others = manifest(videos, PARTS).samples
    parts = [(sample.id, sample.open()) for sample in (first, second, *others)]
    assert parts == [
        ("a.mp4#0-2.5", Video(videos / "a.mp4", 0, 2.5)),
        ("./a.mp4#2.5-", Video(videos / "a.mp4", 2.5)),
        ("a.mp4#-7", Video(videos / "a.mp4", 0, 7)),
        ("b.avi", Video(videos / "b.avi")),
        ("b.avi#1e1-12", Video(videos / "b.avi", 10, 12)),
    ]
    assert [sample.group for sample in (first, second, *others)] == ["a.mp4"] * 3 + ["anna"] * 2
    (videos / "link.mp4").symlink_to(videos / "a.mp4")
    for other in ("a.mp4,run,eva,,", "link.mp4,run,,,"):
        with pytest.raises(UserError, match=r"line 3: the group of .* and that of the same file 'a.mp4' in .*line 2"):
            manifest(videos, f"path,label,group,start,end\na.mp4,jump,,0,2\n{other}\n")


def test_video_manifest__columns_may_have_other_names(videos: Path) -> None:
    text = "file,action,who,from,to,part\nc.mkv,jump,eva,1,2,train\n"
    named = {"path_column": "file", "label_column": "action", "group_column": "who", "start_column": "from"}
    (sample,) = manifest(videos, text, **named, end_column="to", split_column="part", root=videos / "deep").samples
    assert (sample.labels, sample.group, sample.split) == (("jump",), "eva", "train")
    assert sample.open() == Video(videos / "deep/c.mkv", 1, 2)


def test_video_manifest__fingerprint_does_not_depend_on_where_the_folder_lies(tmp_path: Path) -> None:
    digests = []
    for place in ("here", "there"):
        touch(tmp_path / place, ["a.mp4", "b.avi"])
        for name in ("a.mp4", "b.avi"):
            os.utime(tmp_path / place / name, (1, 1))
        digests.append(video_manifest.fingerprint(options(tmp_path / place, PARTS)))
    assert digests[0] == digests[1]


def test_video_manifest__fingerprint_follows_all_that_the_file_says(videos: Path) -> None:
    texts = ["", "a.mp4,jump,,0,2\n", "a.mp4,jump,anna,0,2\n", "a.mp4,jump,,0,3\n", "a.mp4,run,,0,2\n"]
    rows = ["b.avi,run,,,\n" + text for text in texts]
    found = [video_manifest.fingerprint(options(videos, f"path,label,group,start,end\n{row}")) for row in rows]
    assert len({str(each) for each in found}) == len(rows)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("a.mp4,jump,,2,1", "line 2: ends at second 1, expected one after that of its start"),
        ("a.mp4,jump,,,0", "line 2: ends at second 0, expected one after"),
        ("a.mp4,jump,,-1,1", "line 2: column 'start' is '-1', expected seconds"),
        ("a.mp4,jump,,0:10,1", "line 2: column 'start' is '0:10', expected seconds"),
        ("a.mp4,jump,,0,nan", "line 2: column 'end' is 'nan', expected seconds"),
        ("a.mp4,jump,,0,inf", "line 2: column 'end' is 'inf', expected seconds"),
        ("a.mp4,,,0,1", "line 2: a.mp4#0-1 has no label; give it one, or say source.unlabelled: drop"),
        (
            "gone.mp4,jump,,0,1",
            r"line 2: .*gone.mp4: no such video file \(1 of 2 are missing\); get them, or say source.mis",
        ),
        ("b.avi,run,,,", "line 3: b.avi is listed twice, first in .*line 2"),
        ("a.mp4,jump,,1", "line 2: has 4 fields, expected 5"),
    ],
)
def test_video_manifest__faults_name_the_line(videos: Path, row: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as raised:
        manifest(videos, f"path,label,group,start,end\n{row}\nb.avi,jump,,,\n")
    assert len(str(raised.value).splitlines()) == 1


def test_video_manifest__faults_that_are_no_error_are_counted(videos: Path) -> None:
    text = "path,label\ngone.mp4,jump\na.mp4,\nb.avi,run\n./b.avi,run\ndeep/c.mkv,jump\n"
    listing = manifest(videos, text, missing="skip", unlabelled="drop", duplicates="merge")
    assert [sample.id for sample in listing.samples] == ["b.avi", "deep/c.mkv"]
    assert listing.notes == {
        "videos without a label dropped": 1,
        "missing videos skipped": 1,
        "duplicates merged": 1,
    }
    with pytest.raises(UserError, match=r"no video is left of the list: missing videos skipped: 1"):
        manifest(videos, "path,label\ngone.mp4,jump\n", missing="skip")


def test_video_manifest__of_a_multi_label_dataset_holds_lists_or_a_column_for_each_class(videos: Path) -> None:
    listing = manifest(videos, "path,label,end\na.mp4,run|jump,2\nb.avi,run,\n", task="multi_label")
    assert [sample.labels for sample in listing.samples] == [("jump", "run"), ("run",)]
    text = "path,jump,run,who,start,end,split\na.mp4,1,1,eva,0,2,train\nb.avi,0,0,eva,,,test\n"
    columns = {"task": "multi_label", "label_columns": "all", "group_column": "who", "unlabelled": "keep"}
    listing = manifest(videos, text, **columns)
    assert listing.classes == ["jump", "run"]
    assert [(sample.labels, sample.group) for sample in listing.samples] == [(("jump", "run"), "eva"), ((), "eva")]
    with pytest.raises(
        UserError, match=r"line 2: label 'run\|jump' looks like several labels; if it is, say task: mul"
    ):
        manifest(videos, "path,label\na.mp4,run|jump\n")


def test_video_manifest__columns_are_there_once(videos: Path) -> None:
    with pytest.raises(UserError, match=r"list.csv: has no column 'label'; its columns are \['path', 'action'\]"):
        manifest(videos, "path,action\na.mp4,jump\n")
    with pytest.raises(UserError, match=r"list.csv: has 2 columns 'start', expected one"):
        manifest(videos, "path,label,start,start\na.mp4,jump,1,1\n")


def test_video_manifest__parts_are_decoded_from_start_to_end(tmp_path: Path) -> None:
    """Of 40 frames, 25 in a second, of which frame k has the brightness STEP * k."""
    write_video(tmp_path, flat(40), name="a")
    listing = manifest(tmp_path, "path,label,start,end\na.mp4,jump,0,0.4\na.mp4,run,0.8,1.2\na.mp4,all,,\n")
    samples = Samples(image_size=8, segments=2, candidates=1)
    seen = []
    for sample in listing.samples:
        out = np.zeros(samples.shape(3), np.uint8)
        assert samples.decode(sample.open(), out) == ()
        seen.append(out[-2:].mean(axis=(1, 2, 3)) / STEP)
    np.testing.assert_allclose(seen, [[2, 7], [22, 27], [10, 30]], atol=0.7)


@pytest.mark.parametrize("name", ["video_folder", "video_manifest", "ucf101", "moving_digits"])
def test_sources__an_edit_of_the_decoder_packs_videos_anew(name: str) -> None:
    reached = reachable(
        ("kd.stages.prepare_dataset", f"kd.data.sources.{name}:read", "kd.data.modalities.clip:Samples")
    )
    assert "_decoded" in reached["kd.data.video"]
