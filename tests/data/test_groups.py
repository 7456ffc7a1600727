"""Splits that are drawn by whole groups: never cut apart, class by class, as near to the wanted size as can be."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd.common.errors import UserError
from kd.data.groups import Groups
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


def nearest_sum(sizes: list[int], wanted: int) -> int:
    """By trying all sets of sizes; the smaller one of two sums that are as near."""
    sums = {sum(chosen) for count in range(len(sizes) + 1) for chosen in combinations(sizes, count)}
    return min(sums, key=lambda total: (abs(total - wanted), total))


GROUP_SIZES = st.lists(st.lists(st.integers(1, 9), min_size=4, max_size=9), min_size=1, max_size=4)


@settings(max_examples=150, deadline=None)
@given(GROUP_SIZES, st.integers(0, 5), st.floats(0.15, 0.4))
def test_assign_splits__of_each_class_draws_the_groups_that_come_nearest(
    sizes: list[list[int]], seed: int, fraction: float
) -> None:
    labels, names = samples_of(sizes)
    options = SplitOptions(val=fraction, test=1, seed=seed)
    given_splits: list[str | None] = [*["train"] * len(labels), "test"]
    labels, names = np.append(labels, 0), [*names, "apart"]
    single = assign_splits(labels, given_splits, options)
    groups = Groups(names)
    shares = [int(((single == 1) & (labels == label)).sum()) for label in range(len(sizes))]
    nearest = [nearest_sum(own, share) for own, share in zip(sizes, shares, strict=True)]
    wanted, smallest = sum(shares), min(size for own, share in zip(sizes, shares, strict=True) if share for size in own)
    if not any(nearest) and smallest >= 2 * wanted:
        with pytest.raises(UserError, match=rf"split.val: {wanted} images are at most half of each group that may be"):
            assign_splits(labels, given_splits, options, groups)
        return
    codes = assign_splits(labels, given_splits, options, groups)
    found = np.bincount(labels[codes == 1], minlength=len(sizes)).tolist()
    for own, share, near, drawn in zip(sizes, shares, nearest, found, strict=True):
        assert drawn == near or (share and near == 0 and drawn in own)
    assert abs(sum(found) - wanted) <= abs(sum(nearest) - wanted)
    assert all(len(set(codes[np.array(names) == name])) == 1 for name in names)
    said = f"images of val {'more' if sum(found) > wanted else 'fewer'} than the {wanted} asked for, as no group is cut"
    assert groups.notes == ({f"{said} apart": abs(sum(found) - wanted)} if sum(found) != wanted else {})
    assert np.array_equal(codes, assign_splits(labels, given_splits, options, Groups(names)))


def test_assign_splits__a_share_of_less_than_half_a_group_is_made_up_for_by_groups_of_some_classes() -> None:
    """Of ten classes with five groups of ten each, 40 samples are wanted: 4 of each."""
    labels, names = samples_of([[10] * 5] * 10)
    groups = Groups(names)
    codes = assign_splits(labels, [*["train"] * 500], SplitOptions(val=40, test=0.2), groups)
    assert np.bincount(labels[codes == 2]).tolist() == [10] * 10
    assert sorted(np.bincount(labels[codes == 1], minlength=10)) == [0] * 6 + [10] * 4
    assert groups.notes == {}


def test_assign_splits__three_splits_of_groups_share_none() -> None:
    labels, names = samples_of([[5, 4, 6, 5, 5, 3, 7, 5, 4, 6]] * 3)
    groups = Groups(names)
    codes = assign_splits(labels, [None] * len(labels), SplitOptions(val=0.2, test=0.3), groups)
    held = [{name for name, code in zip(names, codes, strict=True) if code == split} for split in range(3)]
    assert sum(map(len, held)) == len(set().union(*held)) == 30
    assert [int((codes == split).sum()) for split in range(3)] == [75, 30, 45]
    assert groups.notes == {}


def test_assign_splits__a_size_that_caps_takes_whole_groups_too() -> None:
    labels, names = samples_of([[3] * 20, [3] * 20])
    given_splits: list[str | None] = [*["train", "test"] * 60]
    groups = Groups([f"{name} {split}" for name, split in zip(names, given_splits, strict=True)])
    codes = assign_splits(labels, given_splits, SplitOptions(train=20, val=9, test=12), groups)
    for name, split in {*zip(names, given_splits, strict=True)}:
        members = [code for code, *own in zip(codes, names, given_splits, strict=True) if own == [name, split]]
        assert len(set(members)) == 1
    assert (codes == UNUSED).any()
    assert {split for split, code in zip(given_splits, codes, strict=True) if code == 2} == {"test"}


def test_assign_splits__another_seed_draws_other_groups() -> None:
    labels, names = samples_of([[4] * 10, [4] * 10])
    drawn = [assign_splits(labels, [None] * 80, SplitOptions(seed=seed), Groups(names)) == 1 for seed in range(3)]
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
            groups = Groups(names)
            codes = assign_splits(labels, splits, options, groups)
            assert np.array_equal(codes, assign_splits(labels, splits, options))
            assert groups.notes == {}


def test_assign_splits__gives_the_codes_that_it_gave_before_there_were_groups() -> None:
    """Written down from that version of the program."""
    codes = assign_splits(np.arange(24) % 3, [None] * 24, SplitOptions(seed=1), Groups([None] * 24))
    assert "".join(map(str, codes)) == "100020000200012100020001"


def test_assign_splits__samples_with_and_without_a_group() -> None:
    labels = np.zeros(100, dtype=int)
    names = [*["film"] * 10, *[None] * 90]
    for seed in range(5):
        codes = assign_splits(labels, [None] * 100, SplitOptions(val=0.15, test=0.15, seed=seed), Groups(names))
        assert [int((codes == split).sum()) for split in range(3)] == [70, 15, 15]
        assert len(set(codes[:10])) == 1


def test_assign_splits__a_group_of_several_classes_is_not_cut_apart() -> None:
    """Ten persons who do all five actions: of val is one of them, or are two."""
    labels, names = np.tile(np.arange(5), 100), [f"person {row // 50}" for row in range(500)]
    groups = Groups(names)
    given_splits: list[str | None] = [*["train"] * 490, *["test"] * 10]
    codes = assign_splits(labels, given_splits, SplitOptions(val=0.11), groups)
    val = {names[row] for row in np.flatnonzero(codes == 1)}
    assert val
    assert all(set(codes[[row for row in range(490) if names[row] == name]]) == {1} for name in val)
    assert set(labels[codes == 1]) == set(range(5))


def test_assign_splits__draws_large_datasets_quickly() -> None:
    """A hundred thousand videos in one class, half of them in pairs."""
    names = [f"pair {row // 2}" if row % 4 < 2 else None for row in range(100_000)]
    codes = assign_splits(np.zeros(100_000, dtype=int), [None] * 100_000, SplitOptions(), Groups(names))
    assert [int((codes == split).sum()) for split in range(3)] == [70_000, 15_000, 15_000]
