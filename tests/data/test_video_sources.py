"""UCF101, HMDB51, ActivityNet and Kinetics in their real layouts: what is read, left out and said. None is decoded."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from kd.common.errors import UserError
from kd.data.options import SplitOptions
from kd.data.sources.base import Listing, load_source
from kd.data.video import Video
from kd.stages.prepare_dataset import Spec, select
from tests.data.video_layouts import (
    VIDEO_MAKERS,
    touch,
)


def source_of(name: str) -> Any:
    """With what not every source has."""
    return load_source(name)


def read(name: str, root: Path, **options: Any) -> Listing:
    source = source_of(name)
    listing: Listing = source.read(source.Options(root=root, **options))
    return listing


def digest(name: str, root: Path, **options: Any) -> Any:
    source = source_of(name)
    return source.fingerprint(source.Options(root=root, **options))


def notes_of(listing: Listing) -> dict[str, int]:
    """But for those on official counts, which no fixture has."""
    return {what: count for what, count in listing.notes.items() if "official" not in what}


def splits_of(listing: Listing) -> dict[str, str | None]:
    return {sample.id: sample.split for sample in listing.samples}


@pytest.mark.parametrize("name", VIDEO_MAKERS)
def test_sources__are_of_clips_and_say_how_to_get_them(tmp_path: Path, name: str) -> None:
    source = source_of(name)
    assert (source.MODALITY, source.CHANNELS, source.TASKS) == ("clip", 3, ("single_label",))
    none = tmp_path / "none"
    with pytest.raises(UserError, match=rf"^source.root: {none} is not a folder; expected the one with the videos"):
        read(name, none)
    assert re.search(r"^get .*https?://.* in source.root", source.BY_HAND)


@pytest.mark.parametrize("name", VIDEO_MAKERS)
def test_sources__give_whole_files_that_are_still_to_be_decoded(tmp_path: Path, name: str) -> None:
    root = VIDEO_MAKERS[name](tmp_path)
    samples = read(name, root).samples
    assert len({sample.id for sample in samples}) == len(samples) > 20
    for sample in samples:
        video = sample.open()
        assert isinstance(video, Video)
        assert video.path.is_file()
        assert video == Video(video.path)
        assert sample.group
        assert len(sample.labels) == 1


@pytest.mark.parametrize("name", VIDEO_MAKERS)
def test_fingerprint__follows_videos_and_lists_wherever_they_lie(tmp_path: Path, name: str) -> None:
    root = VIDEO_MAKERS[name](tmp_path / "one" / "data")
    before = digest(name, root)
    shutil.copytree(root, tmp_path / "two" / "data")
    assert digest(name, tmp_path / "two" / "data") == before
    lists = source_of(name).Options(root=root).lists()
    for file in (read(name, root).samples[0].open().path, *lists[:2]):
        os.utime(file, (1, 1))
        after = digest(name, root)
        assert after != before
        before = after


@pytest.mark.parametrize("name", VIDEO_MAKERS)
def test_sources__lists_may_lie_elsewhere(tmp_path: Path, name: str) -> None:
    root = VIDEO_MAKERS[name](tmp_path / "data")
    expected = splits_of(read(name, root))
    for file in (*root.rglob("*.txt"), *root.rglob("*.json"), *root.rglob("*.csv")):
        (tmp_path / "lists").mkdir(exist_ok=True)
        file.rename(tmp_path / "lists" / file.name)
    with pytest.raises(UserError, match=rf"{root}: holds no .*; say in source.annotations where it is"):
        read(name, root)
    listing = read(name, root, annotations=tmp_path / "lists")
    assert splits_of(listing) == expected
    touch(tmp_path / "lists", ["note.doc"])
    assert notes_of(read(name, root, annotations=tmp_path / "lists")) == notes_of(listing)


@pytest.mark.parametrize("name", VIDEO_MAKERS)
def test_sources__any_ending_on_disk_will_do(tmp_path: Path, name: str) -> None:
    root = VIDEO_MAKERS[name](tmp_path)
    expected = splits_of(read(name, root))
    endings = ("avi", "mp4", "mkv", "webm", "mov", "m4v", "mpg", "mpeg", "wmv", "flv", "3gp", "AVI", "Mp4")
    for number, sample in enumerate(read(name, root).samples):
        path = sample.open().path
        path.rename(path.with_name(f"{path.stem}.{endings[number % len(endings)]}"))
    listing = read(name, root)
    assert splits_of(listing) == expected
    assert {sample.open().path.suffix for sample in listing.samples} == {f".{ending}" for ending in endings}


@pytest.mark.parametrize("name", VIDEO_MAKERS)
def test_sources__what_no_list_names_is_counted_and_two_files_of_one_name_are_refused(
    tmp_path: Path, name: str
) -> None:
    root = VIDEO_MAKERS[name](tmp_path)
    before = notes_of(read(name, root))
    touch(root, ["videos/holiday.mp4", "videos/party.avi", "videos/notes.doc", ".cache/x.mp4"])
    listing = read(name, root)
    assert {what: count for what, count in notes_of(listing).items() if before.get(what) != count} == {
        "videos that no list names left out": 2,
        "hidden files and folders, and those of operating systems, left out": 1,
    }
    path = listing.samples[0].open().path
    touch(root, [f"again/{path.stem}.webm"])
    with pytest.raises(UserError, match=rf"{re.escape(listing.samples[0].id)} may be any of .*; keep one of them"):
        read(name, root)


@pytest.mark.parametrize("name", VIDEO_MAKERS)
def test_sources__missing_videos_are_an_error_or_counted(tmp_path: Path, name: str) -> None:
    root = VIDEO_MAKERS[name](tmp_path)
    samples = read(name, root).samples
    for sample in samples[:3]:
        sample.open().path.unlink()
    with pytest.raises(
        UserError, match=r"no such video file \(3 of \d+ are missing\); get them, or say source.missing: sk"
    ):
        read(name, root, missing="error")
    left = read(name, root, missing="skip")
    assert len(left.samples) == len(samples) - 3
    assert left.notes["missing videos skipped"] == 3
    for sample in left.samples:
        sample.open().path.unlink()
    with pytest.raises(UserError, match=rf"no video is left of the list: missing videos skipped: {len(samples)}$"):
        read(name, root, missing="skip")


def spec_of(name: str, root: Path, val: float = 0.2, **options: Any) -> Spec:
    source = {"type": name, "root": str(root), **options}
    return Spec(
        name="actions",
        source=source,
        fingerprint=digest(name, root, **options),
        modality="clip",
        sample={},
        task="single_label",
        split=SplitOptions(val=val),
    )


@pytest.mark.parametrize("name", VIDEO_MAKERS)
def test_select__val_is_drawn_from_train_by_whole_groups(tmp_path: Path, name: str) -> None:
    selection = select(spec_of(name, VIDEO_MAKERS[name](tmp_path), val=0.3))
    found: dict[tuple[str | None, str | None], set[int]] = {}
    for sample, code in zip(selection.samples, selection.codes.tolist(), strict=True):
        found.setdefault((sample.split, sample.group), set()).add(code)
    assert all(len(codes) == 1 for codes in found.values())
    assert {code for (split, _), codes in found.items() if split == "test" for code in codes} == {2}
    counts = Counter(selection.codes.tolist())
    assert counts[1] / (counts[0] + counts[1]) == pytest.approx(0.3, abs=0.1)
    assert {sample.labels for sample, code in zip(selection.samples, selection.codes, strict=True) if code == 1} == {
        sample.labels for sample in selection.samples
    }
