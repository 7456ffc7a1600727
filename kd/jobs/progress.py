"""Progress of long work: a bar in a terminal, a line every few seconds in a log file."""

from __future__ import annotations

import logging
import sys
import time

from tqdm import tqdm

LINE_EVERY_SECONDS = 5.0

log = logging.getLogger("kd")


class Progress:
    """Counts finished units of work and shows them with whatever figures the caller has.

    Args:
        total: units of work in all.
        unit: what one unit is, in the singular, for people.
        done: units finished in an earlier attempt.
    """

    def __init__(self, total: int, unit: str, done: int = 0) -> None:
        self.total, self.unit, self.done = total, unit, done
        self._first = done
        self._started = self._shown = time.monotonic()
        self._bar = tqdm(total=total, unit=unit, initial=done) if sys.stderr.isatty() else None

    def step(self, units: int = 1, figures: dict[str, float] | None = None) -> None:
        """Further units are finished; `figures` are shown beside their number."""
        self.done += units
        if self._bar is not None:
            self._bar.update(units)
        if time.monotonic() - self._shown >= LINE_EVERY_SECONDS or self.done == self.total:
            self.show(figures or {})

    def show(self, figures: dict[str, float]) -> None:
        """Show figures now."""
        if self._bar is not None:
            self._bar.set_postfix(figures)
            return
        self._shown = time.monotonic()
        left = (self._shown - self._started) / max(1, self.done - self._first) * (self.total - self.done)
        shown = " ".join(f"{name}={value:.4g}" for name, value in figures.items())
        log.info("%s %d/%d %s, %.0f s left", self.unit, self.done, self.total, shown, left)
