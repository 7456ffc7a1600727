"""Groups of samples that show much the same, such as clips of one video: a draw takes all of a group or none of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kd.common.errors import UserError


class Groups:
    """The group that each sample of a dataset is in, and in `notes` what came of drawing whole ones, in words.

    Args:
        names: of the groups, for each sample in the order of their ids; None: it is one by itself.
    """

    def __init__(self, names: Sequence[str | None]) -> None:
        numbers: dict[int | str, int] = {}
        known = (row if name is None else name for row, name in enumerate(names))
        self._of = np.array([numbers.setdefault(name, len(numbers)) for name in known])
        self._any = len(numbers) < len(names)
        self.notes: dict[str, int] = {}

    def draw(self, shuffled: np.ndarray, labels: np.ndarray, taken: np.ndarray, split: str) -> np.ndarray:
        """Draw whole groups in place of single samples.

        Each class keeps the share that it has of `taken`: of its groups those are drawn whose sizes have the sum that
        is nearest to it. Groups of several classes are drawn as if they were one class more. Then classes of which
        nothing is drawn give a group each, of two or more, while that brings the whole nearer to its size.

        Args:
            shuffled: (P,) the samples that are drawn from, in random order.
            labels: (N,) class ids or strata of all samples.
            taken: (count,) the samples that are drawn where there are no groups; then they are returned.
            split: that is drawn.

        Returns:
            The samples of the groups that are drawn, sorted.

        Raises:
            UserError: nothing is nearer to what is wanted than any group is.
        """
        if not self._any:
            return taken
        groups, first, member = np.unique(self._of[shuffled], return_index=True, return_inverse=True)
        sizes, classes = np.bincount(member), labels[shuffled[first]]
        classes[member[labels[shuffled] != classes[member]]] = -1
        wanted = classes[np.searchsorted(groups, self._of[taken])]
        chosen, order, bare = np.zeros(len(groups), dtype=bool), np.argsort(first), []
        for each in np.unique(wanted):
            rows = order[classes[order] == each]
            places = _nearest(sizes[rows].tolist(), int((wanted == each).sum()))
            chosen[rows[places]] = True
            if not places and len(rows) > 1:
                bare.append(rows)
        short = len(taken) - int(sizes[chosen].sum())
        for rows in sorted(bare, key=lambda rows: first[rows[0]]):
            for row in rows[sizes[rows] < 2 * short][:1]:
                chosen[row] = True
                short -= int(sizes[row])
        drawn: np.ndarray = np.sort(shuffled[chosen[member]])
        if not len(drawn):
            raise UserError(
                f"split.{split}: {len(taken)} images are at most half of each group that may be drawn; say more"
            )
        more = len(drawn) - len(taken)
        if more:
            than = f"than the {len(taken):,} asked for, as no group is cut apart"
            self.notes[f"images of {split} {'more' if more > 0 else 'fewer'} {than}"] = abs(more)
        return drawn


def _nearest(sizes: list[int], wanted: int) -> list[int]:
    """Places of some sizes whose sum is nearest to a number above 0; of two sums that are, the smaller one.

    For each sum, `last` has the size by which it was reached first. Twice the number is no nearer than 0.
    """
    last = np.full(2 * wanted, -1)
    last[0] = len(sizes)
    for place, size in enumerate(sizes):
        if size < len(last):
            last[size:][(last[size:] < 0) & (last[:-size] >= 0)] = place
        if last[wanted] >= 0:
            break
    sums = np.flatnonzero(last >= 0)
    total, places = int(sums[np.abs(sums - wanted).argmin()]), []
    while total:
        places.append(int(last[total]))
        total -= sizes[places[-1]]
    return places
