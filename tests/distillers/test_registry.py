"""Methods are found by name, cheap to import, and documented by a line of config that works."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest
import yaml

from kd.distillers.registry import distiller_module, distiller_names, load_distiller, parse_distiller

NAMES = distiller_names()


def test_distiller_names__are_all_methods() -> None:
    assert set(NAMES) == {
        *("vanilla", "kd", "dkd", "fitnet", "at", "sp", "crd", "rkd", "pkt", "reviewkd", "mlfd"),
        *("mse", "ps", "mld", "cd", "id", "l2d"),
    }


def test_load_distiller__imports_no_torch() -> None:
    script = (
        "import sys; from kd.distillers.registry import distiller_names, load_distiller\n"
        "[load_distiller(name)().needs('L3') for name in distiller_names()]\n"
        "print([name for name in ('torch', 'timm') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("name", NAMES)
def test_name__is_that_of_the_file(name: str) -> None:
    assert parse_distiller({"name": name}).name == name


@pytest.mark.parametrize("name", NAMES)
def test_docstring__has_a_config_of_defaults(name: str) -> None:
    documentation = importlib.import_module(distiller_module(name)).__doc__
    assert documentation is not None
    (line,) = [each for each in documentation.splitlines() if each.startswith("    distiller: ")]
    assert parse_distiller(yaml.safe_load(line)["distiller"]) == parse_distiller({"name": name})


@pytest.mark.parametrize("name", NAMES)
def test_options__have_docstrings(name: str) -> None:
    assert all(field.description for key, field in load_distiller(name).model_fields.items() if key != "name")


SINGLE_ONLY = {"kd", "dkd", "crd", "mlfd"}
MULTI_ONLY = {"ps", "mld", "cd", "id", "l2d"}


@pytest.mark.parametrize("name", NAMES)
def test_tasks__softmaxes_are_for_single_labels(name: str) -> None:
    tasks = set(load_distiller(name).TASKS)
    expected = {"single_label"} if name in SINGLE_ONLY else {"single_label", "multi_label"}
    assert tasks == ({"multi_label"} if name in MULTI_ONLY else expected)
