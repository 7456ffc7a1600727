"""Methods are found by name, cheap to import, and documented by a line of config that works."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import yaml

from kd.distillers.registry import METHODS, load_distiller, parse_distiller
from tests.distillers.building import STUDENT, TEACHER, draw, labels_of, make_batch, needed

NAMES = METHODS.names()
OF_THE_PAPERS = (
    *("vanilla", "kd", "dkd", "fitnet", "at", "sp", "crd", "rkd", "pkt", "reviewkd", "mlfd"),
    *("mse", "ps", "mld", "cd", "id", "l2d"),
)


def test_methods__are_those_of_the_papers_at_least() -> None:
    assert set(OF_THE_PAPERS) <= set(NAMES)


def test_load_distiller__imports_no_torch() -> None:
    script = (
        "import sys; from kd.distillers.registry import METHODS, load_distiller\n"
        "[load_distiller(name)().required('L3') for name in METHODS.names()]\n"
        "print([name for name in ('torch', 'timm') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("name", NAMES)
def test_name__is_that_of_the_file(name: str) -> None:
    assert parse_distiller({"name": name}).name == name


@pytest.mark.parametrize("name", NAMES)
def test_docstring__has_a_config_of_defaults(name: str) -> None:
    documentation = METHODS.load(name).__doc__
    assert documentation is not None
    (line,) = [each for each in documentation.splitlines() if each.startswith("    distiller: ")]
    assert parse_distiller(yaml.safe_load(line)["distiller"]) == parse_distiller({"name": name})


@pytest.mark.parametrize("name", NAMES)
def test_options__have_docstrings(name: str) -> None:
    properties = load_distiller(name).model_json_schema()["properties"]
    assert all("description" in each for each in properties.values())


SINGLE_ONLY = {"kd", "dkd", "crd", "mlfd"}
MULTI_ONLY = {"ps", "mld", "cd", "id", "l2d"}


@pytest.mark.parametrize("name", OF_THE_PAPERS)
def test_tasks__softmaxes_are_for_single_labels(name: str) -> None:
    tasks = set(load_distiller(name).TASKS)
    expected = {"single_label"} if name in SINGLE_ONLY else {"single_label", "multi_label"}
    assert tasks == ({"multi_label"} if name in MULTI_ONLY else expected)


@pytest.mark.parametrize("reduction", ["paper", "batch_mean"])
@pytest.mark.parametrize("name", [name for name in NAMES if not load_distiller(name).NEEDS_GLOBAL_BATCH])
def test_loss__of_a_batch_is_the_mean_of_those_of_its_parts(name: str, reduction: str) -> None:
    """So it does not matter in how many passes, or by how many processes, it is computed."""
    options = {"reduction": reduction} if "reduction" in load_distiller(name).model_fields else {}
    method = parse_distiller({"name": name} | options)
    own, wanted = (draw(needed(method, shapes), 6, seed) for shapes, seed in ((STUDENT, 1), (TEACHER, 20)))
    labels = labels_of(method, 6, 0)
    auxiliary = method.auxiliary(needed(method, STUDENT), needed(method, TEACHER), 6)
    if auxiliary is not None:
        auxiliary.double().eval()  # batch norm is another matter

    def loss(rows: slice, count: int) -> float:
        outputs = [{key: value[rows] for key, value in each.items()} for each in (own, wanted)]
        batch = make_batch(labels[rows], torch.arange(6)[rows], epoch=3, parts=count)
        return method.loss(outputs[0], outputs[1], batch, auxiliary).item()

    thirds = [loss(slice(first, first + 2), 3) for first in (0, 2, 4)]
    assert loss(slice(None), 1) == pytest.approx(sum(thirds) / 3, rel=1e-9)
