"""Tables and figures by name: one file each in the folders `tables` and `figures`."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from kd.reporting import figures, tables
from kd.reporting.base import Report


@cache
def reports() -> tuple[type[Report], ...]:
    """All tables, then all figures, by name."""
    return tuple(
        importlib.import_module(f"{package.__name__}.{module.name}").Report
        for package in (tables, figures)
        for module in sorted(pkgutil.iter_modules(package.__path__), key=lambda each: each.name)
    )


def load_report(kind: str, name: str) -> type[Report]:
    """One of them; `analysis` and `figure` lie in the same folder."""
    return next(each for each in reports() if (each.KIND, each.name()) == (kind, name))
