"""What was measured once: shapes of networks, listings of sources. Kept in a small file of the results folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from kd.digest import code_digests
from kd.jobs.files import write_text
from kd.jobs.job import artefact_key

FILE = ".forecast.json"
MEASURED_BY = ("timm", "torch")


class Memory:
    """Answers by everything that they depend on, so that none is ever outdated.

    Args:
        results: folder; what lies there is read, and written by `save`.
    """

    def __init__(self, results: Path) -> None:
        self.path = results / FILE
        self._answers = _read(self.path)
        self._changed = False
        # Also the code that measures, and with it that of all models.
        self._depends = code_digests("kd.forecast.networks") | {name: version(name) for name in MEASURED_BY}

    def recall(self, kind: str, question: Any, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The answer to a question (any JSON), measured if it is new."""
        key = artefact_key(kind, question, {}, self._depends)
        if key not in self._answers:
            self._answers[key] = measure()
            self._changed = True
        return self._answers[key]

    def save(self) -> None:
        """Remember for the next time; where the folder cannot be written, it is measured again."""
        if self._changed:
            with suppress(OSError):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                write_text(self.path, json.dumps(self._answers))


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
