"""Scenes: each canvas is its own, and shows what its labels say."""

from __future__ import annotations

import hashlib
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from kd.data.sources import scenes
from kd.data.sources.scenes import MOST_HIDDEN, Options, read

FEW: dict[str, Any] = {"train": 40, "val": 10, "test": 10}
OBJECTS = get_args(Options.model_fields["objects"].annotation)
every_kind = pytest.mark.parametrize("objects", OBJECTS)


def content(options: Options) -> dict[str, tuple[tuple[str, ...], bytes]]:
    return {sample.id: (sample.labels, np.asarray(sample.open()).tobytes()) for sample in read(options).samples}


@every_kind
def test_scenes__have_ten_classes_and_the_wanted_counts(objects: Any) -> None:
    options = Options(objects=objects, **FEW)
    listing = read(options)
    found = listing.samples
    assert {split: sum(each.split == split for each in found) for split in FEW} == FEW
    assert len({label for each in found for label in each.labels}) == 10
    assert listing.classes is None
    for each in found:
        assert 1 <= len(each.labels) <= 5
        assert list(each.labels) == sorted(set(each.labels))


@every_kind
def test_scenes__a_canvas_depends_on_its_id_alone(objects: Any) -> None:
    few = content(Options(objects=objects, **FEW))
    more = content(Options(objects=objects, train=50, val=12, test=15))
    assert few.items() <= more.items()
    assert len(more) == len(set(more.values())) == 77  # no two are alike


@every_kind
def test_scenes__another_seed_shows_others(objects: Any) -> None:
    first, second = (content(Options(objects=objects, seed=seed, **FEW)) for seed in (0, 1))
    assert not set(first.values()) & set(second.values())


def test_scenes__digits_are_bright_on_dark_and_letters_dark_on_light() -> None:
    middle = {
        objects: np.median([np.asarray(each.open()) for each in read(Options(objects=objects, **FEW)).samples])
        for objects in OBJECTS
    }
    assert middle["digits"] < 30
    assert middle["letters"] > 130


def test_scenes__no_digit_and_no_font_is_in_two_splits() -> None:
    digits = {split: scenes._digits(split) for split in FEW}
    shown = {split: {draw().tobytes() for draws in found.values() for draw in draws} for split, found in digits.items()}
    assert {split: len(found) for split, found in shown.items()} == {"train": 3000, "val": 1000, "test": 1000}
    assert len(set().union(*shown.values())) == 5000
    letters = {split: scenes._letters(split, "AB") for split in FEW}
    fonts = [{draw.args[0] for draws in found.values() for draw in draws} for found in letters.values()]  # type: ignore[attr-defined]
    assert len(set().union(*fonts)) == sum(map(len, fonts)) == 22


@settings(max_examples=40, deadline=None)
@given(st.integers(32, 100), st.integers(1, 6), st.integers(0, 3), st.integers(0, 2**31), st.sampled_from(OBJECTS))
def test_place__objects_are_inside_and_hide_little_of_each_other(
    size: int, least: int, more: int, seed: int, objects: Any
) -> None:
    options = Options(objects=objects, size=size, count=(least, least + more), seed=seed)
    stream = scenes.stream_of(f"{objects}/train/00000/objects", seed)
    placed = scenes._place(options, {"A": [lambda: None] * 3, "B": [lambda: None]}, stream)  # type: ignore[list-item, return-value]
    assert 1 <= len(placed) <= least + more
    low, high = (edge * size for edge in scenes.STYLES[objects].edges)
    for number, each in enumerate(placed):
        assert low - 1 <= each.edge <= high + 1
        assert min(each.row, each.column) >= 0
        assert max(each.row, each.column) + each.edge <= size
        assert all(scenes._hidden(each, other) <= MOST_HIDDEN for other in placed[:number])


@every_kind
def test_compose__each_object_leaves_its_ink_in_its_square(objects: Any) -> None:
    options = Options(objects=objects, noise=0, **FEW)
    for sample in read(options).samples[:20]:
        placed = sample.open.args[2]  # type: ignore[attr-defined]
        assert {each.label for each in placed} == set(sample.labels)
        canvas = np.asarray(sample.open()).astype(int)
        bare = np.asarray(scenes._compose(options, sample.id, [])).astype(int)
        changed = np.abs(canvas - bare) > 60
        for each in placed:
            square = changed[each.row : each.row + each.edge, each.column : each.column + each.edge]
            assert square.any()
            changed[each.row : each.row + each.edge, each.column : each.column + each.edge] = False
        assert not changed.any()


def test_scenes__never_change() -> None:
    """Caches belong to these very canvases; what is drawn may differ a little between versions of Pillow."""
    layout = [
        (sample.id, [(each.label, each.edge, each.row, each.column) for each in sample.open.args[2]])  # type: ignore[attr-defined]
        for objects in OBJECTS
        for sample in read(Options(objects=objects, **FEW)).samples
    ]
    assert hashlib.sha256(repr(layout).encode()).hexdigest()[:16] == "b225aba0a46cf894"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"letters": "ABA"}, "each may stand once"),
        ({"letters": "A"}, "should match pattern"),
        ({"count": (3, 1)}, r"expected \[least, most\]"),
        ({"count": (0, 1)}, "greater than 0"),
    ],
)
def test_scenes__mistakes(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Options(**options)
