"""Names of modules: ours, those of installed packages, and clashes of the two."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from kd.cli.methods import list_methods
from kd.common import registry
from kd.common.errors import UserError
from kd.common.registry import versions_of
from kd.config.schema import DatasetConfig
from kd.data.modalities.base import MODALITIES
from kd.data.sources.base import SOURCES
from kd.distillers.registry import METHODS, usable_methods

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Make a package as pip leaves it behind: metadata with entry points, and modules by name."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(package: str, entry_points: str, **modules: str) -> None:
        metadata = tmp_path / f"{package}-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(entry_points)
        for name, text in modules.items():
            (tmp_path / f"{name}.py").write_text(text)
        registry.installed.cache_clear()

    yield make
    registry.installed.cache_clear()


def test_name__of_a_package_and_of_ours_is_an_error_where_it_is_used(install: Install) -> None:
    install("first", "[kd.methods]\ndkd = first\n", first="")
    entry = r"first 1\.0 \(entry point dkd = first in kd\.methods\)"
    message = rf"{entry}: the name 'dkd' is that of kd\.distillers\.dkd, too"
    with pytest.raises(UserError, match=message):
        METHODS.knows("dkd")
    assert METHODS.knows("kd")
    assert [line for line in list_methods() if "dkd" in line and line.startswith("broken: dkd: first 1.0")]


def test_name__of_two_packages_is_an_error_that_names_both(install: Install) -> None:
    for package in ("first", "second"):
        install(package, f"[kd.sources]\nshared = {package}\n", **{package: ""})
    entry = r"(first|second) 1\.0 \(entry point shared = (first|second) in kd\.sources\)"
    message = rf"{entry} and {entry}: the name 'shared' is that of 2 entry points"
    with pytest.raises(UserError, match=message):
        SOURCES.knows("shared")
    assert "shared" in SOURCES.names()
    assert SOURCES.knows("digits")


@pytest.mark.parametrize(
    ("entry", "text", "message"),
    [
        ("broken = nowhere", "", "cannot be imported: ModuleNotFoundError: No module named 'nowhere'"),
        ("broken = broken:Method", "class Method: pass", "cannot be imported: ModuleNotFoundError"),
        ("broken = broken", "raise SystemExit('no licence')", "cannot be imported: SystemExit: no licence"),
        ("broken = broken", "Method = 3", "has 3 as Method, expected a Distiller"),
        ("br.oken = broken", "", "its name is 'br.oken', expected letters, digits and underscores"),
    ],
)
def test_package__that_is_broken_is_one_error_and_breaks_nothing_else(
    install: Install, entry: str, text: str, message: str
) -> None:
    install("first", f"[kd.methods]\n{entry}\n", broken=text)
    with pytest.raises(UserError, match=rf"first 1\.0 \(entry point {entry} in kd\.methods\): {message}"):
        METHODS.load(entry.split(maxsplit=1)[0])
    assert set(usable_methods()) == set(METHODS.own())


def test_name_of__is_the_one_by_which_a_module_is_known(install: Install) -> None:
    install("first", "[kd.modalities]\nseries = first_series\n", first_series="")
    modules = ("kd.data.modalities.image", "first_series", "second.series")
    assert [MODALITIES.name_of(each) for each in modules] == ["image", "series", "second.series"]
    assert MODALITIES.package_of("series") == "first 1.0"
    assert versions_of(["first_series", "second.series"]) == {"first": "1.0"}


def test_stored__imports_what_packages_declare_and_no_other_module(install: Install) -> None:
    install("first", "[kd.methods]\nempty = first_method\n", first_method="", other_method="")
    with pytest.raises(UserError, match="has no Method"):  # so it was imported
        METHODS.stored("empty")
    for name in ("other_method", "kd.distillers.nothing"):
        with pytest.raises(UserError, match=f"'{name}'"):
            METHODS.stored(name)


def test_source__with_a_modality_that_nobody_has_says_which_there_are(install: Install) -> None:
    text = (
        "from kd.common.options import BaseOptions as Options\n"
        "TASKS, CHANNELS, MODALITY = ('single_label',), 1, 'smells'\n"
        "def fingerprint(options): return {}\n"
        "def read(options): return []\n"
    )
    install("first", "[kd.sources]\nodd = first_odd\n", first_odd=text)
    message = r"source\.type: 'odd' has MODALITY 'smells', expected one of \['clip', 'image'\]"
    with pytest.raises(ValidationError, match=message):
        DatasetConfig.model_validate({"source": {"type": "odd"}})
