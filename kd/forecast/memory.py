"""What was measured once: shapes of networks, listings of sources. Kept in a small file of the results folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Le
from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic takes no other before Python 3.12

from kd.digest import code_digests
from kd.jobs.errors import UserError
from kd.jobs.files import write_text
from kd.jobs.job import artefact_key
from kd.jobs.reading import read_json

FILE = ".forecast.json"
MEASURED_BY = ("timm", "torch")

Count = Annotated[int, Ge(0), Le(1 << 62)]
Shape = list[Annotated[int, Ge(0), Le(1 << 31)]]


class _Dataset(TypedDict):
    classes: list[str]
    most_labels: Count
    sizes: dict[str, Count]
    listing_bytes: Count


class _Measured(TypedDict):
    file: Count
    state: Count
    trained: Count


class _Network(_Measured):
    config: Count
    taps: dict[str, Shape]
    problems: dict[str, str]


class _Export(TypedDict):
    file: Count | None
    config: Count


class _Joint(_Measured):
    config: Count
    shapes: dict[str, Shape]


# Others may write to the results folder, so what was remembered must at least be of the kind that was asked for.
_KINDS: dict[str, TypeAdapter[Any]] = {
    "dataset": TypeAdapter(_Dataset),
    "weights": TypeAdapter(_Measured),
    "network": TypeAdapter(_Network),
    "export": TypeAdapter(_Export),
    "joint": TypeAdapter(_Joint),
    "parts": TypeAdapter(_Measured),
}


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
        found: Any = self._answers.get(key)
        if not is_answer(kind, found):
            found = self._answers[key] = json.loads(json.dumps(measure()))  # as it is read the next time
            self._changed = True
        return dict(found)

    def save(self) -> None:
        """Remember for the next time; where the folder cannot be written, it is measured again."""
        if self._changed:
            with suppress(OSError, UserError):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                write_text(self.path, json.dumps(self._answers))


def is_answer(kind: str, found: Any) -> bool:
    """Whether something has the fields, and these the types, that answers of a kind have."""
    try:
        _KINDS[kind].validate_python(found, strict=True)
    except ValidationError:
        return False
    return True


def _read(path: Path) -> dict[str, Any]:
    try:
        found = read_json(path)
    except (OSError, UserError):
        return {}
    return found if isinstance(found, dict) else {}
