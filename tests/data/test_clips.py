"""Clips: which frames are stored and seen, and views that are pure functions of dataset, seed, view and sample."""

from __future__ import annotations

from fractions import Fraction
from functools import partial
from math import floor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from kd.data.draws import draw
from kd.data.modalities.base import load_modality
from kd.data.modalities.clip import SHORT, Samples, evaluation_indices, plain, training_candidates, views
from kd.data.options import Augmentation
from kd.data.packed import open_split
from kd.data.packing import REPEATED, pack
from kd.data.sources.base import SPLITS, Sample
from kd.data.video import DAMAGED, FEWER, Video
from kd.data.views import Views, resize_images, to_float
from tests.data.videos import STEP, flat, noisy, numbers, write_video

NUMBERS = range(1, 301)  # of frames


def slow_candidates(frames: int, segments: int, candidates: int) -> list[list[int]]:
    """One number at a time, in fractions: the middle of each of so many equal parts of the frames that may be drawn."""
    step = frames // segments
    if step == 0:
        return [[round(Fraction(k * frames, segments)) % frames] * candidates for k in range(segments)]
    return [
        [
            list(range(k * step, (k + 1) * step))[floor((c + Fraction(1, 2)) * step / candidates)]
            for c in range(candidates)
        ]
        for k in range(segments)
    ]


def slow_evaluation_indices(frames: int, segments: int, clips: int) -> list[list[int]]:
    starts = [(Fraction(1, 2) + Fraction(clip, clips)) % 1 for clip in range(clips)]
    return [[floor((k + start) * Fraction(frames, segments)) for k in range(segments)] for start in starts]


@pytest.mark.parametrize("segments", [1, 3, 8, 25])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_indices__are_those_of_the_rule(segments: int, count: int) -> None:
    for frames in NUMBERS:
        found = training_candidates(frames, segments, count)
        assert found.tolist() == slow_candidates(frames, segments, count)
        assert evaluation_indices(frames, segments, count).tolist() == slow_evaluation_indices(frames, segments, count)
        stored = Samples(image_size=8, segments=segments, candidates=count, test_clips=count).indices(frames)
        assert 0 <= stored.min() <= stored.max() < frames


@pytest.mark.parametrize("segments", [1, 3, 8])
def test_training_candidates__all_of_a_segment_are_the_whole_rule(segments: int) -> None:
    for step in range(1, 20):
        for rest in range(segments):
            found = training_candidates(segments * step + rest, segments, step)
            assert found.ravel().tolist() == list(range(segments * step))


def test_indices__of_mmaction2() -> None:
    """Computed with SampleFrames of MMAction2 1.2.0."""
    assert evaluation_indices(164, 8, 1).tolist() == [[10, 30, 51, 71, 92, 112, 133, 153]]
    assert evaluation_indices(4, 8, 1).tolist() == [[0, 0, 1, 1, 2, 2, 3, 3]]
    assert evaluation_indices(1, 8, 1).tolist() == [[0] * 8]
    assert evaluation_indices(8, 8, 2).tolist() == [list(range(8))] * 2
    assert training_candidates(4, 8, 1).ravel().tolist() == [0, 0, 1, 2, 2, 2, 3, 0]


# Stored clips


@pytest.mark.parametrize("count", [1, 5, 50])
def test_decode__stores_the_frames_of_the_rule(tmp_path: Path, count: int) -> None:
    samples = Samples(image_size=16, segments=8, candidates=2, test_clips=2)
    out = np.empty(samples.shape(3), np.uint8)
    notes = samples.decode(Video(write_video(tmp_path, flat(count))), out)
    expected = np.concatenate([np.ravel(slow_candidates(count, 8, 2)), np.ravel(slow_evaluation_indices(count, 8, 2))])
    assert out.shape == (32, 16, 16, 3)
    assert numbers(list(out)) == expected.tolist()
    assert notes == ((SHORT,) if count < 8 else ())


@pytest.mark.parametrize(("resize", "left"), [("squash", 0), ("crop", 200)])
def test_decode__resizes_as_images_are(tmp_path: Path, resize: Literal["squash", "crop"], left: int) -> None:
    frame = np.full((48, 64, 3), 200, np.uint8)
    frame[:, :6] = 0  # is cut off where the aspect ratio is kept
    samples = Samples(image_size=(24, 24), resize=resize, segments=1, candidates=1)
    for channels in (1, 3):
        out = np.empty(samples.shape(channels), np.uint8)
        samples.decode(Video(write_video(tmp_path, [frame] * 2)), out)
        assert out.shape == (2, 24, 24, channels)
        assert abs(int(out[0, 12, 0].max()) - left) < 15


def test_pack__counts_what_is_odd_about_videos(tmp_path: Path) -> None:
    paths = [write_video(tmp_path, noisy(20), "mpeg4", name=f"{number}") for number in range(12)]
    for path in paths[:2]:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    paths[2] = write_video(tmp_path, flat(3), name="short")
    codes = np.arange(12) // 2 % 3
    clips = [Sample(path.stem, (str(row % 2),), partial(Video, path)) for row, path in enumerate(paths)]
    samples = Samples(image_size=16, segments=4, candidates=2)
    info, changes = pack(
        tmp_path / "packed", "clips", clips, codes, ["0", "1"], task="single_label", modality=samples, channels=3
    )
    assert (info.samples, info.sizes) == (samples, {"train": 4, "val": 4, "test": 4})
    assert changes == {DAMAGED: 2, FEWER: 2, SHORT: 1, REPEATED: 7}  # whole ones are alike
    out = np.empty(samples.shape(3), np.uint8)
    names = (tmp_path / "packed/samples.csv").read_text().splitlines()[1:]
    stored = np.concatenate([open_split(tmp_path / "packed", split).images.read() for split in SPLITS])
    for line, row in zip(names, stored, strict=True):
        (path,) = (path for path in paths if path.stem == line.split(",")[1])
        samples.decode(Video(path), out)
        assert np.array_equal(row, out)


# Views

SHAKE = Augmentation(
    crop=(0.5, 1.0), flip=0.5, rotation=20, translate=0.1, brightness=0.3, contrast=0.3, saturation=0.3, cutout=0.3
)
STILL = Augmentation()  # changes no frame, but draws which are seen
SAMPLES = Samples(image_size=16, segments=4, candidates=3)
COUNT = 40
IDS = np.arange(COUNT)
RANDOM = torch.Generator().manual_seed(0)
STORED = torch.randint(0, 256, (COUNT, *SAMPLES.shape(3)), dtype=torch.uint8, generator=RANDOM)
NUMBERED = torch.arange(16, dtype=torch.uint8)[None, :, None, None, None].mul(STEP).expand(COUNT, *SAMPLES.shape(3))
"""Of each frame, the brightness tells its place in the store."""


def chosen(seen: Tensor) -> np.ndarray:
    """(B, T) places in the store of frames of NUMBERED that are seen."""
    return (seen.mean(dim=(2, 3, 4)) * 255 / STEP).round().long().numpy()


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(COUNT)), st.integers(1, COUNT), st.integers(0, 20))
def test_views__do_not_depend_on_order_or_batch_size(order: list[int], size: int, view: int) -> None:
    whole = views(SAMPLES, "shared", "toy", 3, SHAKE)(STORED, IDS, view)
    assert whole.shape == (COUNT, 4, 3, 16, 16)
    again = views(SAMPLES, "shared", "toy", 3, SHAKE)
    for start in range(0, COUNT, size):
        rows = np.array(order[start : start + size])
        assert torch.equal(again(STORED[rows], IDS[rows], view), whole[rows])


def test_views__draw_one_candidate_of_each_segment_all_equally_often() -> None:
    seen = np.stack([chosen(views(SAMPLES, "train", "toy", 0, STILL)(NUMBERED, IDS, view)) for view in range(50)])
    candidate = seen - 3 * np.arange(4)  # (V, B, T)
    assert set(np.unique(candidate)) == {0, 1, 2}
    for segment in range(4):
        counts = np.bincount(candidate[..., segment].ravel())
        assert counts == pytest.approx([2000 / 3] * 3, abs=100)
    together = np.bincount((candidate[..., 0] * 3 + candidate[..., 1]).ravel())
    assert together == pytest.approx([2000 / 9] * 9, abs=60)  # segments are drawn for themselves


def test_views__frames_differ_by_stream_dataset_seed_view_and_sample() -> None:
    def frames(stream: Any = "shared", dataset: str = "toy", seed: int = 0, view: int = 0) -> np.ndarray:
        return chosen(views(SAMPLES, stream, dataset, seed, STILL)(NUMBERED, IDS, view))

    first = frames()
    assert np.array_equal(first, frames())
    assert len(np.unique(first, axis=0)) > 20
    for other in (frames(stream="train"), frames(dataset="other"), frames(seed=1), frames(view=1)):
        assert 0.2 < (other == first).mean() < 0.5  # by chance a third


def test_views__frames_are_drawn_from_a_stream_of_their_own() -> None:
    operations = draw("shared", 0, "toy", 0, IDS)
    frames = draw("shared", 0, "toy", 0, IDS, frames=16)
    assert frames.shape == operations.shape
    assert not np.isin(frames, operations).any()
    assert draw("shared", 0, "toy", 0, IDS, frames=40).shape == (COUNT, 40)


def test_views__all_frames_of_a_clip_are_augmented_alike_as_an_image_is() -> None:
    images = STORED[:, 0]
    clips = images[:, None].expand(-1, 16, -1, -1, -1)  # that stand still
    for augmentation in (SHAKE, SHAKE.model_copy(update={"policy": "trivialaugment"})):
        seen = views(SAMPLES, "train", "toy", 5, augmentation)(clips, IDS, 2)
        expected = Views("train", "toy", 5, augmentation)(images, IDS, 2)
        assert torch.equal(seen, expected[:, None].expand(-1, 4, -1, -1, -1))


def test_views__without_augmentation_are_the_first_clip_of_tests() -> None:
    samples = Samples(image_size=12, store_size=16, segments=4, candidates=3, test_clips=2, test_crops=3)
    stored = torch.randint(0, 256, (5, *samples.shape(3)), dtype=torch.uint8, generator=RANDOM)
    seen = views(samples, "shared", "toy", 0, None)(stored, np.arange(5), 7)
    for row in range(5):
        assert torch.equal(seen[row], resize_images(to_float(stored[row, 12:16]), (12, 12)))


def test_plain__shows_all_segments_of_a_clip_and_then_of_the_next_one() -> None:
    samples = Samples(image_size=12, store_size=16, segments=4, candidates=3, test_clips=2)
    stored = torch.randint(0, 256, (5, *samples.shape(3)), dtype=torch.uint8, generator=RANDOM)
    seen = plain(samples, stored)
    assert seen.shape == (5, 8, 3, 12, 12)
    for row in range(5):
        torch.testing.assert_close(seen[row], resize_images(to_float(stored[row, 12:]), (12, 12)))


@pytest.mark.parametrize("store_size", [(16, 16), (12, 20), (21, 12)])
def test_plain__three_crops_are_the_ends_and_the_middle(store_size: tuple[int, int]) -> None:
    samples = Samples(image_size=12, store_size=store_size, segments=2, candidates=3, test_clips=2, test_crops=3)
    stored = torch.randint(0, 256, (3, *samples.shape(3)), dtype=torch.uint8, generator=RANDOM)
    seen = plain(samples, stored)
    assert seen.shape == (3, 12, 3, 12, 12)
    height, width = store_size
    places = [(0, 0), ((height - 12) // 2, (width - 12) // 2), (height - 12, width - 12)]
    for row in range(3):
        for number, (top, left) in enumerate(places):
            for frame in range(4):
                expected = stored[row, 6 + frame, top : top + 12, left : left + 12].permute(2, 0, 1) / 255
                torch.testing.assert_close(seen[row, 4 * number + frame], expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"segments": 0}, "greater than or equal to 1"),
        ({"candidates": 0}, "greater than or equal to 1"),
        ({"test_crops": 2}, "should be 1 or 3"),
        ({"test_crops": 3}, r"test_crops: 3 takes parts of image_size \[16, 16\] from frames of store_size \[16, 16\]"),
        ({"test_crops": 3, "store_size": (8, 20)}, r"of store_size \[8, 20\]; expected a larger store_size"),
        ({"ground": "white"}, "Extra inputs are not permitted"),
    ],
)
def test_samples__mistakes(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Samples(image_size=16, **options)


def test_samples__are_known_by_their_name() -> None:
    assert load_modality("clip") is Samples
    assert SAMPLES.name() == "clip"
