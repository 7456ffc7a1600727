"""Packages import only from those below them, and the README shows them as they are."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.conftest import ROOT

TOP, *PACKAGES = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]["layers"]
MOST_LINES = 400


def lint(checkout: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--config", str(checkout / "pyproject.toml")]
    return subprocess.run([*command, "--no-cache"], cwd=checkout, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the code, free to be edited."""
    copy = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "kd", copy / "kd", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    return copy


@pytest.mark.parametrize(
    ("file", "line", "broken"),
    [
        ("kd/data/views.py", "import kd.training.loop", "layers"),
        ("kd/models/spec.py", "from kd.planning.plan import Plan", "layers"),
        ("kd/data/options.py", "from kd.data.views import Views", "no circles"),
    ],
)
def test_imports__a_forbidden_one_is_found(checkout: Path, file: str, line: str, broken: str) -> None:
    path = checkout / file
    text = path.read_text()
    path.write_text(f"{text}\n\n{line}\n")
    done = lint(checkout)
    path.write_text(text)
    assert done.returncode == 1
    assert f"{broken} BROKEN" in done.stdout


def test_imports__are_as_the_layers_say(checkout: Path) -> None:
    done = lint(checkout)
    assert done.returncode == 0, done.stdout


def test_root__holds_nothing_but_packages() -> None:
    assert {path.name for path in (ROOT / "kd").glob("*.py")} == {"__init__.py", "__main__.py", "api.py"}
    assert {path.parent.name for path in (ROOT / "kd").glob("*/__init__.py")} == set(PACKAGES)


def test_readme__shows_the_packages_in_their_order_with_what_they_say_of_themselves() -> None:
    shown = re.findall(r"^    kd/(\w+)/ +(.*)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    told = [(name, ast.get_docstring(ast.parse((ROOT / f"kd/{name}/__init__.py").read_text()))) for name in PACKAGES]
    assert shown == told


def test_readme__names_files_that_are_there() -> None:
    text = (ROOT / "README.md").read_text()
    table = text[text.index("| where is …") : text.index("To add a dataset source")]
    named = [name for name in re.findall(r"`(kd/[a-z_/]+\.py)`", table) if "METHOD" not in name]
    assert len(named) >= 10
    assert [name for name in named if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("package", ["kd", "tests", "benchmarks"])
def test_files__are_short_enough_to_be_read(package: str) -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in (ROOT / package).rglob("*.py")}
    assert {path: length for path, length in lengths.items() if length > MOST_LINES} == {}
