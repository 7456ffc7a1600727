"""The package: what `pip install .` installs, and that versions and ranges agree wherever they stand."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = [
    Requirement(line)
    for name in ("requirements.txt", "slurm.txt")
    for line in (ROOT / "envs" / name).read_text().splitlines()
    if line and not line.startswith("#")
]


def test_dependencies__are_pinned_each_within_its_range() -> None:
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    ranges = [Requirement(each) for group in groups for each in group]
    ranged = {canonicalize_name(each.name): each for each in ranges if each.name != "kd"}
    pinned = {canonicalize_name(each.name): each for each in PINS}
    assert ranged.keys() == pinned.keys()
    for name, pin in pinned.items():
        (version,) = (each.version for each in pin.specifier)
        assert version in ranged[name].specifier, f"{name}: {version} is not in {ranged[name].specifier}"
        assert pin.extras == ranged[name].extras


def test_version__is_the_same_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    newest, date = re.findall(r"^## ([\d.]+) - (\d{4}-\d\d-\d\d)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[
        0
    ]
    assert (PROJECT["version"], str(citation["version"]), str(citation["date-released"])) == (newest, newest, date)


def test_changelog__has_its_entries_under_the_usual_headings() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert set(re.findall(r"^### (.*)$", text, re.MULTILINE)) <= {"Added", "Changed", "Fixed", "Removed"}
    first_entry = text.index("\n- ")
    assert text.index("\n### ") < first_entry


def test_citation__has_what_a_reader_needs() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert citation["authors"] == [{"name": each["name"]} for each in PROJECT["authors"]]
    assert citation["license"] == PROJECT["license"]
    for paper in citation["references"]:
        assert {"type", "title", "authors", "year"} <= paper.keys()


def test_catalog__has_the_keys_of_standardised_usage() -> None:
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert usage.keys() == {"mandatory-flags", "software-stack-deployment", "report"}
    assert usage["software-stack-deployment"] == {"conda": True}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, as pip builds it."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--wheel-dir"]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(folder), str(ROOT)], check=True)
    (built,) = folder.glob("kd-*.whl")
    return built


def test_wheel__holds_the_package_and_nothing_else(wheel: Path) -> None:
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if not name.startswith("kd-")}
    files = [path for path in (ROOT / "kd").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert packed == {str(path.relative_to(ROOT)) for path in files}
    assert "kd/py.typed" in packed


def test_wheel__has_a_script_that_runs(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["--quiet", "--no-deps", "--disable-pip-version-check", "--target", str(tmp_path / "installed")]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(wheel)], check=True)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "installed"))
    script = str(tmp_path / "installed/bin/kd")
    shown = subprocess.run([script, "--help"], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert shown.stdout.startswith("usage: kd [-h] command")
    page = subprocess.run([script, "methods", "mlfd"], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert page.stdout.startswith("MLFD: ")
