"""Which sample is in train, val and test: stratified, reproducible, independent of file order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from kd.common.errors import UserError
from kd.data.options import SplitOptions
from kd.data.sources.base import SPLITS

UNUSED = -1
DEFAULT_FRACTION = 0.15


def assign_splits(
    labels: np.ndarray, given: list[str | None], options: SplitOptions, groups: Sequence[str | None] = ()
) -> tuple[np.ndarray, dict[str, int]]:
    """Split of every sample.

    Args:
        labels: (N,) class ids or `strata`, samples in the order of their ids.
        given: split that the source gives each sample, or None.
        options: wanted sizes.
        groups: names of the groups that no draw cuts apart, for each sample; None: it is one by itself. Empty: all are.

    Returns:
        (N,) codes: index into SPLITS, or UNUSED for samples beyond the wanted sizes; and how far whole groups are from
        these sizes, in words.

    Raises:
        UserError: the source does not hold as many samples as asked for.
    """
    numbers: dict[int | str, int] = {}
    known = (row if name is None else name for row, name in enumerate(groups or [None] * len(labels)))
    group_of = np.array([numbers.setdefault(name, len(numbers)) for name in known])
    codes = np.array([0 if split is None else SPLITS.index(split) for split in given])
    result, notes = np.full(len(labels), UNUSED), {}
    free = np.flatnonzero(codes == 0)
    to_share = len(free)

    def draw(pool: np.ndarray, of: int, code: int) -> np.ndarray:
        count = _count(getattr(options, SPLITS[code]), of, code)
        taken = _draw(pool, count, code, labels, options, group_of)
        if more := len(taken) - count:
            kind = "more" if more > 0 else "fewer"
            notes[f"samples of {SPLITS[code]} {kind} than the {count:,} asked for, as no group is cut apart"] = abs(
                more
            )
        return taken

    for code in (2, 1):
        pool = np.flatnonzero(codes == code)
        if len(pool) == 0:
            taken = draw(free, to_share, code)
            free = np.setdiff1d(free, taken)
        else:
            taken = pool if getattr(options, SPLITS[code]) is None else draw(pool, len(pool), code)
        result[taken] = code
    result[free if options.train is None else draw(free, to_share, 0)] = 0
    return result, notes


def strata(labels: np.ndarray) -> np.ndarray:
    """The strata whose proportions a draw keeps: the class, or the rarest label of each sample.

    The rarest one, since common labels come along with any draw; a split without a rare one could not measure it.

    Args:
        labels: (N,) int64 class ids, or (N, classes) uint8 of 0 and 1.

    Returns:
        (N,) int64; samples without labels have the number of classes, as if that were a class of their own.
    """
    if labels.ndim == 1:
        return labels
    order = np.argsort(labels.sum(axis=0, dtype=np.int64), kind="stable")
    rarest: np.ndarray = order[labels[:, order].argmax(axis=1)]
    rarest[~labels.any(axis=1)] = labels.shape[1]
    return rarest


def _count(size: float | None, of: int, code: int) -> int:
    """The number of samples that a size asks for; None: the default."""
    wanted = DEFAULT_FRACTION if size is None else size
    count = wanted if isinstance(wanted, int) else round(wanted * of)
    if count == 0:
        said = f"the default, {wanted}," if size is None else f"{size}"
        raise UserError(
            f"split.{SPLITS[code]}: {said} of {of} samples is none; say a count, or a larger fraction, or give the"
            " dataset more samples"
        )
    return count


def _draw(
    pool: np.ndarray, count: int, code: int, labels: np.ndarray, options: SplitOptions, group_of: np.ndarray
) -> np.ndarray:
    """Draw `count` of `pool` so that every prefix of the draw has the pool's class proportions, or whole groups."""
    if count > len(pool):
        raise UserError(
            f"split.{SPLITS[code]}: {getattr(options, SPLITS[code])} asks for {count} samples, {len(pool)} are there to"
            " draw from; say fewer, or draw fewer for the other splits"
        )
    rng = np.random.Generator(np.random.Philox([options.seed, code]))
    shuffled = rng.permutation(pool)
    position = np.empty(len(pool))
    for label in np.unique(labels[pool]):
        members = labels[shuffled] == label
        position[members] = (np.arange(members.sum()) + 0.5) / members.sum()
    taken = np.sort(shuffled[np.argsort(position, kind="stable")[:count]])
    drawn = np.sort(shuffled[_whole_groups(group_of[shuffled], labels[shuffled], np.isin(shuffled, taken))])
    if not len(drawn):
        raise UserError(
            f"split.{SPLITS[code]}: {count} samples are at most half of each group that may be drawn; say more"
        )
    return drawn


def _whole_groups(groups: np.ndarray, labels: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Samples of whole groups, nearly as many of each class as single ones are taken.

    One group after the other is drawn if that brings its class nearer to its number, and of those left, if it brings
    the whole nearer. Groups of several classes count as of the class of their first sample.

    Args:
        groups: (P,) of shuffled samples.
        labels: (P,) of these.
        taken: (P,) bool, the single ones.

    Returns:
        (P,) bool; `taken` where each sample is a group by itself.
    """
    _, first, member, sizes = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    if len(sizes) == len(groups):
        return taken
    drawn = np.zeros(len(sizes), dtype=bool)
    for classes in (labels[first], np.zeros_like(first)):
        wanted = Counter(classes[member[taken]].tolist())
        wanted.subtract(classes[member[drawn[member]]].tolist())
        for group in np.argsort(first):
            if not drawn[group] and sizes[group] < 2 * wanted[classes[group]]:
                drawn[group] = True
                wanted[classes[group]] -= sizes[group]
    return drawn[member]
