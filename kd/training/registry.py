"""Teachers' outputs from stores or from live teachers, loaded by name: their code counts only in jobs that use it."""

from __future__ import annotations

import importlib
from typing import Any

LIVE = "kd.training.live_teachers"
STORED = "kd.training.cached_targets"


def load_live() -> Any:
    """`kd.training.live_teachers`."""
    return importlib.import_module(LIVE)


def load_stored() -> Any:
    """`kd.training.cached_targets`."""
    return importlib.import_module(STORED)
