"""Tables and figures by name: one file each in the folders `tables` and `figures`."""

from __future__ import annotations

from functools import cache

from kd.common.registry import Registry
from kd.reporting.base import Report

FOLDERS = (Registry("kd.reporting.tables"), Registry("kd.reporting.figures"))


@cache
def reports() -> tuple[type[Report], ...]:
    """All tables, then all figures, by name."""
    return tuple(folder.load(name).Report for folder in FOLDERS for name in folder.names())


def load_report(kind: str, name: str) -> type[Report]:
    """One of them; `analysis` and `figure` lie in the same folder."""
    return next(each for each in reports() if (each.KIND, each.name()) == (kind, name))
