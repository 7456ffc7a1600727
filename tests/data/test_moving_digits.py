"""Moving digits: what happens is in how frames follow each other, and in no frame alone."""

from __future__ import annotations

import gc
import hashlib
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from kd.data.modalities.clip import Samples
from kd.data.sources.moving_digits import ACTIONS, GROUPS, Action, Options, digit_of, read, render, write
from kd.data.video import Video

CLIP = Samples(image_size=32, segments=4, candidates=1)
ONE = np.zeros((28, 28), np.uint8)
ONE[6:22, 11:17] = 255
ONE[6:10, 11:21] = 255  # like an F without its middle, so that no turn and no mirror image is the same


def rendered(action: Action, clip: int = 0, **options: Any) -> np.ndarray:
    return render(Options(**options), action, ONE, f"{action}/0", clip).astype(int)


@pytest.mark.parametrize("clip", range(4))
@pytest.mark.parametrize(("action", "axis", "way"), [("left", 2, -1), ("right", 2, 1), ("up", 1, -1), ("down", 1, 1)])
def test_render__a_digit_that_moves_is_rolled_over_the_frame(action: Action, axis: int, way: int, clip: int) -> None:
    frames = rendered(action, clip, size=40)
    shifts = []
    for first, second in pairwise(frames):
        (shift,) = [each for each in range(-4, 5) if np.array_equal(np.roll(first, each, axis=axis - 1), second)]
        shifts.append(shift * way)
    assert min(shifts) >= 0
    assert 0.8 * 0.6 * 40 - 2 < sum(shifts) * 24 / 23 < 1.2 * 0.6 * 40 + 2


@pytest.mark.parametrize("action", ["grow", "shrink"])
def test_render__a_digit_that_grows_begins_anew_when_it_is_largest(action: Action) -> None:
    for clip in range(4):
        ink = rendered(action, clip, size=64).sum(axis=(1, 2))
        changes = np.diff(ink if action == "grow" else ink[::-1])
        assert (changes < 0).sum() <= 1
        assert (changes > 0).sum() >= 20
        assert ink.max() / ink.min() > 1.4


@pytest.mark.parametrize(("action", "way"), [("clockwise", 1), ("counter_clockwise", -1)])
def test_render__a_digit_turns_about_its_middle(action: Action, way: int) -> None:
    """By the angle of the centre of its ink about the middle, where its start happens to be no border."""
    seen = 0
    for clip in range(12):
        frames = rendered(action, clip, size=64) / 255
        if max(frames[:, 0].max(), frames[:, :, 0].max()) > 0:  # it reaches over a border
            continue
        rows, columns = np.mgrid[:64, :64]
        centres = [((rows * each).sum() + 1j * (columns * each).sum()) / each.sum() for each in frames]
        middle = np.mean([np.argwhere(each > 0.1).mean(axis=0) for each in frames], axis=0)
        turns = np.angle([(each.imag - middle[1]) + 1j * (each.real - middle[0]) for each in centres])
        steps = np.angle(np.exp(1j * np.diff(turns)))
        assert (np.sign(steps) == way).mean() > 0.8  # rows point downwards, so clockwise is positive
        seen += 1
    assert seen > 0


@pytest.mark.parametrize("background", ["plain", "noise", "gradient"])
def test_render__what_the_first_frame_shows_does_not_depend_on_the_action(background: Any) -> None:
    options = Options(background=background)
    for clip in range(5):
        first, *others = (render(options, action, ONE, "group", clip) for action in ACTIONS)
        for each in others:
            assert np.array_equal(each[0], first[0])
            assert not np.array_equal(each[-1], first[-1])


def test_render__place_angle_and_size_begin_and_end_anywhere() -> None:
    """So the frames after the first one tell nothing either: what turns on a circle from anywhere is anywhere."""
    count, size = 300, 32
    rows, columns = np.mgrid[:size, :size]

    def spread(frames: np.ndarray) -> list[float]:
        """Lengths of the mean directions of columns, rows and doubled angles of the digit: near 0 if uniform."""
        ink = frames / frames.sum(axis=(1, 2), keepdims=True)
        places = [np.exp(2j * np.pi * each / size) for each in (columns, rows)]
        centres = [(ink * each).sum(axis=(1, 2)) for each in places]
        right, down = (np.angle(each * np.conj(at)[:, None, None]) for each, at in zip(places, centres, strict=True))
        angles = (ink * (right + 1j * down) ** 2).sum(axis=(1, 2))
        return [abs((each / abs(each)).mean()) for each in (*centres, angles)]

    for action in ("right", "down", "clockwise", "grow"):
        clips = np.stack([render(Options(size=size), action, ONE, "group", clip) for clip in range(count)]).astype(
            float
        )
        for frames in (clips[:, 0], clips[:, 12], clips[:, -1]):
            assert max(spread(frames)) < 3.5 / np.sqrt(count)
        inks = clips.sum(axis=(2, 3))
        deviations = inks[:, 0].std() * np.sqrt(2 / count)
        assert abs(inks[:, 0].mean() - inks[:, -1].mean()) < 4 * deviations


def test_render__backgrounds_are_darker_than_digits_and_stand_still() -> None:
    plain = rendered("right")
    for background in ("noise", "gradient"):
        frames = rendered("right", background=background)
        never = plain.max(axis=0) == 0
        assert never.any()
        assert (frames[:, never] == frames[0, never]).all()
        assert frames[0, never].std() > 3
        assert frames[0, never].max() < 140
        assert (frames[plain > 200] == plain[plain > 200]).all()


# Files


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("moving")
    write(Options(actions=["left", "counter_clockwise"], digits="35", count=60, frames=5, size=32), made)
    return made


def test_write__layout_is_that_of_ucf101(folder: Path) -> None:
    assert (folder / "classInd.txt").read_text() == "1 Left\n2 CounterClockwise\n"
    train, test = ((folder / f"{split}list01.txt").read_text().splitlines() for split in ("train", "test"))
    files = {str(path.relative_to(folder / "videos")) for path in folder.rglob("*.mp4")}
    assert {line.split()[0] for line in train} | set(test) == files
    assert len(train) + len(test) == len(files) == 120
    assert "Left/v_Left_g08_c03.mp4 1" in train
    assert "CounterClockwise/v_CounterClockwise_g07_c02.mp4" in test
    assert {int(name.split("_g")[1][:2]) for name in test} == set(range(1, 8))
    assert {int(name.split("_g")[1][:2]) for name in train} == set(range(8, 26))


def test_write__files_are_always_the_same(folder: Path, tmp_path: Path) -> None:
    write(Options(actions=["left", "counter_clockwise"], digits="35", count=60, frames=5, size=32), tmp_path)
    for path in folder.rglob("*.*"):
        assert path.read_bytes() == (tmp_path / path.relative_to(folder)).read_bytes()


def test_write__files_show_what_is_rendered(folder: Path) -> None:
    options = Options(actions=["left", "counter_clockwise"], digits="35", count=60, frames=5, size=32)
    digit = digit_of(options, "left", 7)
    expected = render(options, "left", digit, "left/7", 2)
    frames, count, notes = Video(folder / "videos/Left/v_Left_g08_c03.mp4").read(np.arange, np.asarray)
    assert (count, notes) == (5, ())
    assert np.abs(np.stack(frames).mean(axis=3) - expected).mean() < 4


def test_digits__each_group_has_an_image_of_its_own() -> None:
    for digits in ("0123456789", "7"):
        options = Options(digits=digits)
        shown = {digit_of(options, action, group).tobytes() for action in ACTIONS for group in range(GROUPS)}
        assert len(shown) == 8 * GROUPS


def test_read__gives_clips_by_group_that_are_there_as_long_as_the_samples() -> None:
    listing = read(Options(actions=["up", "grow"], count=25, frames=4))
    samples = {sample.id: sample for sample in listing.samples}
    assert {sample.labels for sample in samples.values()} == {("Up",), ("Grow",)}
    groups = defaultdict(set)
    for sample in samples.values():
        groups[sample.group].add(sample.split)
    assert len(groups) == 50
    assert all(len(splits) == 1 for splits in groups.values())
    assert sum(splits == {"test"} for splits in groups.values()) == 14
    assert listing.notes == {}
    opened = listing.samples[0].open()
    out = np.empty(CLIP.shape(3), np.uint8)
    assert CLIP.decode(opened, out) == ()
    assert out.max() > 200
    del listing, samples, sample
    gc.collect()
    assert not opened.path.exists()


def test_read__another_seed_shows_others() -> None:
    digests = []
    for seed in (0, 1):
        listing = read(Options(actions=["up", "grow"], count=25, frames=4, seed=seed))
        digests.append({hashlib.sha256(each.open().path.read_bytes()).digest() for each in listing.samples})
    assert [len(each) for each in digests] == [50, 50]
    assert not digests[0] & digests[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"digits": "3x"}, "should match pattern"),
        ({"digits": "33"}, "each may stand once"),
        ({"actions": ["left", "left"]}, "each may stand once"),
        ({"actions": ["left"]}, "at least 2 items"),
        ({"actions": ["left", "jump"]}, "should be 'left'"),
        ({"size": 33}, "multiple of 2"),
        ({"count": 10}, "greater than or equal to 25"),
        ({"background": "forest"}, "should be 'plain'"),
    ],
)
def test_options__mistakes(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Options(**options)
