"""Splits that are drawn by whole groups: never cut apart, and each class near to its share."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd.data.options import SplitOptions
from kd.data.splits import UNUSED, assign_splits


def samples_of(sizes: list[list[int]]) -> tuple[np.ndarray, list[str | None]]:
    """Labels and groups of as many classes, with groups of these sizes; samples of a group are not side by side."""
    labels = np.array([label for label, own in enumerate(sizes) for size in own for _ in range(size)])
    names = [
        f"{label}/{group}" for label, own in enumerate(sizes) for group, size in enumerate(own) for _ in range(size)
    ]
    order = np.random.default_rng(0).permutation(len(labels))
    return labels[order], [names[row] for row in order]


GROUP_SIZES = st.lists(st.lists(st.integers(1, 9), min_size=4, max_size=9), min_size=1, max_size=4)


@settings(max_examples=150, deadline=None)
@given(GROUP_SIZES, st.integers(0, 5), st.floats(0.15, 0.4))
def test_assign_splits__draws_whole_groups_within_half_of_one_of_what_is_wanted(
    sizes: list[list[int]], seed: int, fraction: float
) -> None:
    labels, names = samples_of(sizes)
    options = SplitOptions(val=fraction, test=1, seed=seed)
    given_splits: list[str | None] = [*["train"] * len(labels), "test"]
    labels, names = np.append(labels, 0), [*names, "apart"]
    single, _ = assign_splits(labels, given_splits, options)
    codes, notes = assign_splits(labels, given_splits, options, names)
    assert all(len(set(codes[np.array(names) == name])) == 1 for name in names)
    shares, drawn = (np.bincount(labels[each == 1], minlength=len(sizes)) for each in (single, codes))
    wanted, more = int(shares.sum()), int(drawn.sum() - shares.sum())
    assert abs(more) <= max(max(own) / 2 for own in sizes) * len(sizes)
    if more < 0:  # then no group is left that would come nearer
        left = {name: names.count(name) for name, code in zip(names, codes, strict=True) if code == 0}
        assert min(left.values()) >= 2 * -more
    for own, share, found in zip(sizes, shares, drawn, strict=True):
        assert share - found <= max(own) / 2
    said = f"samples of val {'more' if more > 0 else 'fewer'} than the {wanted} asked for, as no group is cut apart"
    assert notes == ({said: abs(more)} if more else {})
    assert np.array_equal(codes, assign_splits(labels, given_splits, options, names)[0])


def test_assign_splits__of_groups_of_one_size_each_class_gives_its_share() -> None:
    """Of 36 samples in groups of 4: of a share of 11 samples three groups, of one of 10 two."""
    labels, names = samples_of([[4] * 9] * 4)
    given_splits: list[str | None] = [*["train"] * 144, "test"]
    codes, notes = assign_splits(np.append(labels, 0), given_splits, SplitOptions(val=43), [*names, None])
    assert sorted(np.bincount(labels[codes[:-1] == 1], minlength=4)) == [8, 12, 12, 12]
    assert notes == {"samples of val more than the 43 asked for, as no group is cut apart": 1}


def test_assign_splits__a_share_of_less_than_half_a_group_is_made_up_for_by_groups_of_some_classes() -> None:
    """Of ten classes with five groups of ten each, 40 samples are wanted: 4 of each."""
    labels, names = samples_of([[10] * 5] * 10)
    codes, _ = assign_splits(labels, [*["train"] * 500], SplitOptions(val=40, test=0.2), names)
    assert np.bincount(labels[codes == 2]).tolist() == [10] * 10
    assert (codes == 1).sum() == 40
    assert set(np.bincount(labels[codes == 1])) <= {0, 10, 20}


def test_assign_splits__three_splits_of_groups_share_none() -> None:
    labels, names = samples_of([[5, 4, 6, 5, 5, 3, 7, 5, 4, 6]] * 3)
    codes, _ = assign_splits(labels, [None] * len(labels), SplitOptions(val=0.2, test=0.3), names)
    held = [{name for name, code in zip(names, codes, strict=True) if code == split} for split in range(3)]
    assert sum(map(len, held)) == len(set().union(*held)) == 30
    for split, wanted in enumerate((75, 30, 45)):
        assert abs((codes == split).sum() - wanted) <= 9


def test_assign_splits__a_size_that_caps_takes_whole_groups_too() -> None:
    labels, names = samples_of([[3] * 20, [3] * 20])
    given_splits: list[str | None] = [*["train", "test"] * 60]
    groups = [f"{name} {split}" for name, split in zip(names, given_splits, strict=True)]
    codes, _ = assign_splits(labels, given_splits, SplitOptions(train=20, val=9, test=12), groups)
    for name, split in {*zip(names, given_splits, strict=True)}:
        members = [code for code, *own in zip(codes, names, given_splits, strict=True) if own == [name, split]]
        assert len(set(members)) == 1
    assert (codes == UNUSED).any()
    assert {split for split, code in zip(given_splits, codes, strict=True) if code == 2} == {"test"}


def test_assign_splits__another_seed_draws_other_groups() -> None:
    labels, names = samples_of([[4] * 10, [4] * 10])
    drawn = [assign_splits(labels, [None] * 80, SplitOptions(seed=seed), names)[0] == 1 for seed in range(3)]
    assert len({each.tobytes() for each in drawn}) == 3


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("names", [[None] * 200, [f"own {row}" for row in range(200)]], ids=["none", "of one sample"])
def test_assign_splits__without_groups_of_several_samples_nothing_is_another(
    names: list[str | None], seed: int
) -> None:
    labels = np.random.default_rng(seed).integers(0, 7, 200)
    given_splits: list[str | None] = [*["train"] * 170, *["test"] * 30]
    for options in (SplitOptions(seed=seed), SplitOptions(train=60, val=31, test=11, seed=seed)):
        nothing: list[str | None] = [None] * 200
        for splits in (given_splits, nothing):
            codes, notes = assign_splits(labels, splits, options, names)
            assert np.array_equal(codes, assign_splits(labels, splits, options)[0])
            assert notes == {}


def test_assign_splits__gives_the_codes_that_it_gave_before_there_were_groups() -> None:
    """Written down from that version of the program."""
    codes, _ = assign_splits(np.arange(24) % 3, [None] * 24, SplitOptions(seed=1), [None] * 24)
    assert "".join(map(str, codes)) == "100020000200012100020001"


def test_assign_splits__samples_with_and_without_a_group() -> None:
    labels = np.zeros(100, dtype=int)
    names = [*["film"] * 10, *[None] * 90]
    for seed in range(5):
        codes, _ = assign_splits(labels, [None] * 100, SplitOptions(val=0.15, test=0.15, seed=seed), names)
        assert abs((codes == 1).sum() - 15) <= 5
        assert abs((codes == 2).sum() - 15) <= 5
        assert len(set(codes[:10])) == 1


def test_assign_splits__a_group_of_several_classes_is_not_cut_apart() -> None:
    """Ten persons who do all five actions."""
    labels, names = np.tile(np.arange(5), 100), [f"person {row // 50}" for row in range(500)]
    given_splits: list[str | None] = [*["train"] * 490, *["test"] * 10]
    codes, _ = assign_splits(labels, given_splits, SplitOptions(val=0.11), names)
    val = {names[row] for row in np.flatnonzero(codes == 1)}
    assert val
    assert all(set(codes[[row for row in range(490) if names[row] == name]]) == {1} for name in val)
    assert set(labels[codes == 1]) == set(range(5))


def test_assign_splits__draws_large_datasets_quickly() -> None:
    """A hundred thousand videos in one class, half of them in pairs."""
    names = [f"pair {row // 2}" if row % 4 < 2 else None for row in range(100_000)]
    codes, _ = assign_splits(np.zeros(100_000, dtype=int), [None] * 100_000, SplitOptions(), names)
    assert [int((codes == split).sum()) for split in range(3)] == [70_000, 15_000, 15_000]
