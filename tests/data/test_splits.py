"""Splits are disjoint, of the wanted size, stratified and reproducible."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd.common.errors import UserError
from kd.data.options import SplitOptions
from kd.data.splits import UNUSED, assign_splits, strata


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=60, max_size=200), st.integers(5, 20), st.integers(0, 5))
def test_assign_splits__sizes_and_proportions(labels: list[int], size: int, seed: int) -> None:
    classes = np.array(labels)
    options = SplitOptions(train=size, val=size, test=size, seed=seed)
    codes, _ = assign_splits(classes, [None] * len(classes), options)
    assert [(codes == code).sum() for code in (0, 1, 2)] == [size] * 3
    assert (codes == UNUSED).sum() == len(classes) - 3 * size
    shares = np.bincount(classes, minlength=5) / len(classes) * size
    drawn = np.bincount(classes[codes == 2], minlength=5)
    assert np.abs(drawn - shares).max() <= 1.5
    assert np.array_equal(codes, assign_splits(classes, [None] * len(classes), options)[0])


def test_assign_splits__keeps_what_the_source_says() -> None:
    given_splits = ["train"] * 20 + ["val"] * 10 + ["test"] * 10
    labels = np.arange(40) % 2
    codes, _ = assign_splits(labels, list(given_splits), SplitOptions(test=4))
    assert set(np.flatnonzero(codes == 0)) == set(range(20))
    assert set(np.flatnonzero(codes == 1)) == set(range(20, 30))
    assert set(np.flatnonzero(codes == 2)) < set(range(30, 40))
    assert (codes == 2).sum() == 4


def test_assign_splits__draws_missing_splits_from_train() -> None:
    given_splits = ["train"] * 30 + ["test"] * 10
    codes, _ = assign_splits(np.arange(40) % 2, list(given_splits), SplitOptions(val=0.2))
    assert (codes == 1).sum() == 6
    assert (codes[:30] >= 0).all()
    assert (codes[30:] == 2).all()


def test_assign_splits__another_seed_draws_others() -> None:
    labels = np.arange(100) % 2
    first, second = (assign_splits(labels, [None] * 100, SplitOptions(seed=seed))[0] for seed in (0, 1))
    assert not np.array_equal(first, second)


def test_assign_splits__asks_for_no_more_than_there_is() -> None:
    with pytest.raises(UserError, match=r"split.train: 95 asks for 95 samples, 70 are there"):
        assign_splits(np.zeros(100, dtype=int), [None] * 100, SplitOptions(train=95))


def test_assign_splits__says_what_to_do_where_a_split_would_be_empty() -> None:
    for options, said in (
        (SplitOptions(), r"split.test: the default, 0.15, of 3 samples is none; say a count, or a larger"),
        (SplitOptions(test=1, val=0.1), r"split.val: 0.1 of 3 samples is none; say a count"),
        (SplitOptions(test=4), r"split.test: 4 asks for 4 samples, 3 are there to draw from; say fewer"),
    ):
        with pytest.raises(UserError, match=said):
            assign_splits(np.array([0, 0, 1]), [None] * 3, options)


def test_strata__are_classes_or_rarest_labels() -> None:
    classes = np.array([2, 0, 1])
    assert strata(classes) is classes
    labels = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 1], [0, 0, 0]], dtype=np.uint8)
    assert strata(labels).tolist() == [1, 0, 2, 3]


def test_assign_splits__rare_labels_and_samples_without_any_are_in_every_split() -> None:
    """All 900 samples show label 0; 30 of them label 1, and 10 label 2, together with 1; 60 show nothing."""
    labels = np.zeros((960, 3), dtype=np.uint8)
    labels[:900, 0] = labels[:30, 1] = labels[:10, 2] = 1
    codes, _ = assign_splits(strata(labels), [None] * 960, SplitOptions(val=0.1, test=0.2))
    for code, fraction in ((1, 0.1), (2, 0.2)):
        assert labels[codes == code].sum(axis=0)[1:] == pytest.approx(np.array([30, 10]) * fraction, abs=1.5)
        assert (~labels[codes == code].any(axis=1)).sum() == pytest.approx(60 * fraction, abs=1)
