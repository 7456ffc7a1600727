"""The page on the library: its Python runs from top to bottom, and what its comments say of values is true."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

FENCES = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/library.md").read_text(), re.MULTILINE | re.DOTALL)
VALUE = re.compile(r"  # (\{.*\}|\(.*\)|torch\.Size\(.*\))$")


def test_library_page__runs_and_values_are_as_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    told = 0
    for fence in FENCES:
        exec(compile(fence, "docs/library.md", "exec"), names)
        for line in fence.splitlines():
            value = VALUE.search(line)
            if value is not None:
                found = eval(line[: value.start()].partition(" = ")[2] or line[: value.start()], names)
                assert repr(found) == value.group(1)
                told += 1
    assert told >= 4
