"""Videos: the frames that were written are read, in their order, whatever container and codec they are in."""

from __future__ import annotations

import math
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from kd.common.errors import UserError
from kd.data import video
from kd.data.video import BEYOND, DAMAGED, FEWER, Video
from tests.data.videos import KINDS, flat, noisy, numbers, pixels_of, turn_clockwise, write_audio, write_video

every_kind = pytest.mark.parametrize("kind", KINDS)


def everything(count: int) -> np.ndarray:
    return np.arange(count)


def read(path: Path, start: float = 0, end: float = math.inf) -> tuple[list[int], tuple[str, ...]]:
    """Which frames are there, and what is odd about them."""
    frames, count, notes = Video(path, start, end).read(everything, pixels_of)
    assert len(frames) == count
    return numbers(frames), notes


@every_kind
def test_read__all_frames_in_their_order_to_the_last(tmp_path: Path, kind: str) -> None:
    assert read(write_video(tmp_path, flat(50), kind)) == (list(range(50)), ())


@every_kind
def test_read__wanted_frames_alone_each_converted_once(tmp_path: Path, kind: str) -> None:
    converted: list[np.ndarray] = []

    def convert(image: Image.Image) -> np.ndarray:
        converted.append(pixels_of(image))
        return converted[-1]

    path = write_video(tmp_path, flat(50), kind)
    frames, count, notes = Video(path).read(lambda count: np.array([count - 1, 3, 3, count // 2]), convert)
    assert (numbers(frames), count, notes) == ([49, 3, 3, 25], 50, ())
    assert numbers(converted) == [3, 25, 49]


def test_read__a_video_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decode = Mock(side_effect=video._decoded)
    monkeypatch.setattr(video, "_decoded", decode)
    for kind in KINDS:
        read(write_video(tmp_path, flat(20), kind))
    assert decode.call_count == len(KINDS)


@pytest.mark.parametrize("packets", [0, 7, 49, 51, 90])
def test_read__a_video_with_another_number_of_packets_is_read_as_exactly(
    tmp_path: Path, packets: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Video, "_packets", lambda _: packets)
    path = write_video(tmp_path, flat(50))
    frames, count, _ = Video(path).read(lambda count: np.array([0, count // 2, count - 1]), pixels_of)
    assert (numbers(frames), count) == ([0, 25, 49], 50)


def test_read__one_frame(tmp_path: Path) -> None:
    for kind in KINDS:
        assert read(write_video(tmp_path, flat(1), kind)) == ([0], ())


TIMES = [40, 140, 190, 540, 590, 1240, 1250]  # of frames, in milliseconds


@pytest.mark.parametrize("kind", ["h264", "h264_in_mkv", "vp9"])
@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0, math.inf, [0, 1, 2, 3, 4, 5, 6]),
        (0.15, 0.55, [2, 3]),
        (0.5, math.inf, [3, 4, 5, 6]),
        (0, 0.15, [0, 1]),
        (0, 1.2, [0, 1, 2, 3, 4]),
        (1.1, 2, [5, 6]),
    ],
)
def test_read__a_part_goes_by_timestamps_where_the_frame_rate_varies(
    tmp_path: Path, kind: str, start: float, end: float, expected: list[int]
) -> None:
    path = write_video(tmp_path, flat(len(TIMES)), kind, TIMES)
    assert read(path, start, end) == (expected, ())


def test_read__a_part_that_ends_long_behind_its_video_is_said(tmp_path: Path) -> None:
    path = write_video(tmp_path, flat(len(TIMES)), "h264", TIMES)
    assert read(path, 1.1, 99) == ([5, 6], (BEYOND,))


@pytest.mark.parametrize("kind", ["h264", "mpeg4", "mpeg4_with_b_frames"])
def test_read__the_first_timestamp_counts_as_zero(tmp_path: Path, kind: str) -> None:
    path = write_video(tmp_path, flat(50), kind)  # in AVI with B-frames it is 1/25
    assert read(path, 0.4, 0.8)[0] == list(range(10, 20))
    assert read(path, 0, 0.04)[0] == [0]


@pytest.mark.parametrize(("start", "end"), [(2, 3), (0.41, 0.43), (0, 0), (1, 0.5)])
def test_read__a_part_without_frames_is_an_error(tmp_path: Path, start: float, end: float) -> None:
    path = write_video(tmp_path, flat(50))
    with pytest.raises(UserError, match=rf"video.mp4: holds no frame that can be decoded from {start} s to {end} s"):
        read(path, start, end)


@every_kind
def test_read__colours_are_red_green_and_blue_at_any_size(tmp_path: Path, kind: str) -> None:
    frame = np.zeros((46, 70, 3), np.uint8)
    frame[:, :, 0], frame[:, 35:, 1] = 200, 100
    frames, *_ = Video(write_video(tmp_path, [frame] * 2, kind)).read(everything, pixels_of)
    for each in frames:
        assert each.shape == frame.shape
        assert np.abs(each[:, 4:-4].astype(int) - frame[:, 4:-4]).mean() < 6


def test_read__a_turned_video_is_seen_upright(tmp_path: Path) -> None:
    frame = np.zeros((48, 64, 3), np.uint8)
    frame[:24, :32] = 200  # upper left
    path = write_video(tmp_path, [frame] * 3)
    turn_clockwise(path)
    frames, *_ = Video(path).read(everything, pixels_of)
    for each in frames:
        assert each.shape == (64, 48, 3)
        assert each[4:28, 28:44].min() > 180  # upper right
        assert each[36:, :].max() < 20
        assert each[:, :20].max() < 20


@pytest.mark.parametrize("kind", ["mpeg4", "mpeg4_with_b_frames", "h264_in_mkv", "vp9"])
def test_read__a_file_that_is_cut_short_has_the_frames_that_are_left(tmp_path: Path, kind: str) -> None:
    path = write_video(tmp_path, noisy(50), kind)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    found, notes = read(path)
    assert 10 < len(found) < 50
    assert found[:-2] == list(range(len(found) - 2))  # the last B-frames lack what they are made from
    if path.suffix == ".avi":  # whose header says how many there should be
        assert notes == (DAMAGED, FEWER)


@pytest.mark.parametrize("kind", ["h264", "mpeg4"])
def test_read__what_follows_a_damaged_part_is_read(tmp_path: Path, kind: str) -> None:
    path = write_video(tmp_path, noisy(50), kind)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 300] = bytes(each ^ 0xFF for each in content[middle : middle + 300])
    path.write_bytes(content)
    frames, count, notes = Video(path).read(everything, pixels_of)
    assert 49 <= count <= 50
    assert DAMAGED in notes
    assert numbers(frames[:20]) == list(range(20))
    assert numbers([frames[-1]]) == [49]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a video that can be read"),
        (b"no video at all\n" * 100, "is not a video that can be read"),
        (b"ffconcat version 1.0\nfile video.mp4\n", "is not a video that can be read"),
        (
            b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nvideo.mp4\n#EXT-X-ENDLIST\n",
            "is not a video that can be read",
        ),
    ],
    ids=["empty", "text", "list of files", "playlist"],
)
def test_read__what_is_no_video_is_an_error(tmp_path: Path, content: bytes, message: str) -> None:
    write_video(tmp_path, flat(5))
    path = tmp_path / "broken.mp4"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"broken\.mp4: {message}"):
        read(path)


def test_read__an_mp4_file_that_is_cut_short_is_an_error(tmp_path: Path) -> None:
    path = write_video(tmp_path, flat(50))
    path.write_bytes(path.read_bytes()[:-1000])  # its end says where all frames are
    with pytest.raises(UserError, match=r"video\.mp4: is not a video that can be read"):
        read(path)


def test_read__sound_alone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"sound\.mp4: holds no video stream"):
        read(write_audio(tmp_path / "sound.mp4"))


def test_read__a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.mp4: cannot be read"):
        read(tmp_path / "gone.mp4")
    with pytest.raises(UserError, match="cannot be read"):
        read(tmp_path)
