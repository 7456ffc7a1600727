"""The public names: one list, each with an example that runs, typed, and cheap until the first one is used."""

from __future__ import annotations

import doctest
import subprocess
import sys
from pathlib import Path

import pytest

import kd
from kd import api
from tests.conftest import ROOT


@pytest.mark.parametrize("name", api.__all__)
def test_public_names__have_an_example_that_runs(name: str) -> None:
    found = doctest.DocTestFinder(recurse=False).find(getattr(kd, name), name, globs={})
    examples = [each for each in found if each.examples]
    assert examples, f"kd.{name} has no example"
    for each in examples:
        assert doctest.DocTestRunner().run(each).failed == 0


def test_public_names__are_what_kd_offers() -> None:
    assert set(api.__all__) <= set(dir(kd))
    names: dict[str, object] = {}
    exec("from kd import *", names)
    assert set(api.__all__) <= set(names)
    with pytest.raises(AttributeError, match="no attribute 'distil'"):
        kd.distil  # type: ignore[attr-defined]  # noqa: B018


def test_import__loads_torch_only_when_a_name_is_used() -> None:
    code = "import sys, kd; assert 'torch' not in sys.modules; kd.Tapped; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


MYPY = """[mypy]
strict = True
ignore_missing_imports = True
[mypy-kd.*]
follow_imports = silent
[mypy-timm.*]
follow_imports = skip
"""
"""As a user has it: nothing is said of packages that are installed."""


def test_mypy__scripts_of_users_are_typed(tmp_path: Path) -> None:
    """Types come through the lazy import: the examples pass, and mistakes are found."""
    (tmp_path / "mypy.ini").write_text(MYPY)
    wrong = "import kd\n\nmethod: int = kd.create_method('kd')\nkd.Cache(3)\nkd.distil\n"
    (tmp_path / "wrong.py").write_text(wrong)
    files: list[str | Path] = [tmp_path / "wrong.py", *ROOT.glob("examples/*.py")]
    options: list[str | Path] = ["--config-file", tmp_path / "mypy.ini", "--cache-dir", ROOT / ".mypy_cache/users"]
    command: list[str | Path] = [sys.executable, "-m", "mypy", *options, *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert not done.stderr, done.stderr
    lines = [line.partition(": error: ") for line in done.stdout.splitlines() if ": error: " in line]
    assert [Path(place).name for place, *_ in lines] == ["wrong.py:3", "wrong.py:4", "wrong.py:5"], done.stdout
    for (*_, said), expected in zip(lines, ('type "Distiller"', 'Argument 1 to "Cache"', '"distil"'), strict=True):
        assert expected in said
