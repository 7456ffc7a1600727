"""Which sample is in train, val and test: stratified, reproducible, independent of file order."""

from __future__ import annotations

from functools import partial

import numpy as np

from kd.common.errors import UserError
from kd.data.groups import Groups
from kd.data.options import SplitOptions
from kd.data.sources.base import SPLITS

UNUSED = -1
DEFAULT_FRACTION = 0.15


def assign_splits(
    labels: np.ndarray, given: list[str | None], options: SplitOptions, groups: Groups | None = None
) -> np.ndarray:
    """Split of every sample.

    Args:
        labels: (N,) class ids or `strata`, samples in the order of their ids.
        given: split that the source gives each sample, or None.
        options: wanted sizes.
        groups: that no draw cuts apart; None: there are none.

    Returns:
        (N,) codes: index into SPLITS, or UNUSED for samples beyond the wanted sizes.

    Raises:
        UserError: the source does not hold as many samples as asked for.
    """
    draw = partial(_draw, labels=labels, options=options, groups=groups)
    codes = np.array([0 if split is None else SPLITS.index(split) for split in given])
    result = np.full(len(labels), UNUSED)
    free = np.flatnonzero(codes == 0)
    to_share = len(free)
    for code in (2, 1):
        wanted = getattr(options, SPLITS[code])
        pool = np.flatnonzero(codes == code)
        if len(pool) == 0:
            count = _count(wanted, to_share, code)
            taken = draw(free, count, code)
            free = np.setdiff1d(free, taken)
        else:
            taken = pool if wanted is None else draw(pool, _count(wanted, len(pool), code), code)
        result[taken] = code
    train = free if options.train is None else draw(free, _count(options.train, to_share, 0), 0)
    result[train] = 0
    return result


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
    """The number of images that a size asks for; None: the default."""
    wanted = DEFAULT_FRACTION if size is None else size
    count = wanted if isinstance(wanted, int) else round(wanted * of)
    if count == 0:
        said = f"the default, {wanted}," if size is None else f"{size}"
        raise UserError(
            f"split.{SPLITS[code]}: {said} of {of} images is none; say a count, or a larger fraction, or give the"
            " dataset more images"
        )
    return count


def _draw(
    pool: np.ndarray, count: int, code: int, labels: np.ndarray, options: SplitOptions, groups: Groups | None
) -> np.ndarray:
    """Draw `count` of `pool` so that every prefix of the draw has the pool's class proportions."""
    if count > len(pool):
        raise UserError(
            f"split.{SPLITS[code]}: {getattr(options, SPLITS[code])} asks for {count} images, {len(pool)} are there to"
            " draw from; say fewer, or draw fewer for the other splits"
        )
    rng = np.random.Generator(np.random.Philox([options.seed, code]))
    shuffled = rng.permutation(pool)
    position = np.empty(len(pool))
    for label in np.unique(labels[pool]):
        members = labels[shuffled] == label
        position[members] = (np.arange(members.sum()) + 0.5) / members.sum()
    taken = np.sort(shuffled[np.argsort(position, kind="stable")[:count]])
    return groups.draw(shuffled, labels, taken, SPLITS[code]) if groups else taken
