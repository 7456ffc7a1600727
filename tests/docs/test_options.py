"""Tables of the keys of option classes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pytest
from annotated_types import Ge, Gt, Lt

from docs.generate.options import code, table_of
from kd.common.options import BaseOptions


class Inner(BaseOptions):
    """A section."""

    size: int = 1


class Options(BaseOptions):
    """All kinds of fields."""

    inner: Inner = Inner()
    share: Annotated[float, Ge(0), Lt(1)] = 1.0
    """How much | of it."""
    kind: Literal["a", "b", "c"] = "a"
    either: Annotated[int, Gt(0)] | Literal["all"] | None = None
    sizes: tuple[int, int] = (1, 2)
    names: dict[str, list[str]] = {}
    """A text
    of two lines."""
    root: Path
    sections: dict[str, Inner] = {}


def test_table__says_type_default_and_docstring() -> None:
    assert table_of(Options, leave_out=("sections",)) == (
        "| key | type | default | meaning |\n"
        "| --- | --- | --- | --- |\n"
        "| `root` | path | required |  |\n"
        "| `inner` | section | its defaults |  |\n"
        "| `share` | number at least 0 and below 1 | `1` | How much \\| of it. |\n"
        "| `kind` | `a`, `b` or `c` | `a` |  |\n"
        "| `either` | whole number above 0 or `all`, or `null` | `null` |  |\n"
        "| `sizes` | list of 2: whole number | `[1, 2]` |  |\n"
        "| `names` | mapping of names to: list of: text | `{}` | A text of two lines. |\n"
    )


def test_table__of_a_class_without_fields_is_empty() -> None:
    assert table_of(BaseOptions) == ""


@pytest.mark.parametrize(
    ("value", "text"), [(0.05, "0.05"), (1000.0, "1000"), ("32", "'32'"), ("last", "last"), (["L4", "L3"], "[L4, L3]")]
)
def test_code__is_what_a_config_has(value: object, text: str) -> None:
    assert code(value) == f"`{text}`"
