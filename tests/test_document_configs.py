"""Every config of the repository, and every one that the documents show, passes all checks ahead of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kd.cli.forecast import check_fit
from kd.config.load import load_config, read_config
from kd.planning.plan import Plan
from tests.documents import CONFIGS, examples, with_stand_ins


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all."""
    return tmp_path_factory.mktemp("documents") / "results"


def check(raw: dict[str, Any], results: Path, folder: Path) -> None:
    one_seed = {"seeds": raw.get("seeds", [0])[:1]}  # others are checked alike
    plan = Plan(load_config(with_stand_ins(raw, folder) | one_seed | {"results": str(results)}))
    first = next(check_fit(plan, [*plan.jobs]))
    count = len(plan.run().jobs)
    assert first.startswith(f"still to be made: {count} of {count}, ")


@pytest.mark.parametrize("number", range(len(examples())))
def test_example__passes_preflight(number: int, results: Path, tmp_path: Path) -> None:
    check(examples()[number], results, tmp_path)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_config__passes_preflight(path: Path, results: Path, tmp_path: Path) -> None:
    check(read_config(path), results, tmp_path)
