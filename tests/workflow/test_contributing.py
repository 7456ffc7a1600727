"""What CONTRIBUTING.md shows works as it stands; and modules of somebody else's are named in full."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.conftest import ROOT
from tests.workflow.contributing import blocks, config, extend, text_of
from tests.workflow.running import snakemake


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the code with every example, and a method of somebody else's beside it."""
    checkout = tmp_path_factory.mktemp("extended")
    extend(checkout)
    (checkout / "theirs").mkdir()
    method = text_of("kd/distillers/smooth_l1.py").replace('"smooth_l1"', '"theirs.doubled"')
    (checkout / "theirs/doubled.py").write_text(method)
    return checkout


def test_examples__run_and_are_reported(extended: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = config()
    raw["students"]["theirs"] = raw["students"]["matched"] | {"distiller": {"name": "theirs.doubled"}}
    monkeypatch.setenv("PYTHONPATH", str(extended))
    done = snakemake(tmp_path, "figures", config=raw, checkout=extended, share=False)
    assert done.returncode == 0, done.stdout
    assert "waves: series that were cut: 120" in done.stdout
    folder = tmp_path / "results/experiments/waves"
    methods = {"individual", "smooth_l1", "theirs.doubled"}
    assert set(pd.read_csv(folder / "tables/summary.csv")["method"]) == methods
    assert set(pd.read_csv(folder / "tables/seconds.csv")["method"]) == methods
    assert "<svg" in (folder / "figures/counts.svg").read_text()
    assert (folder / "captions/figure-counts.rst").read_text() == "Networks that were measured, by method."
    (counts,) = (tmp_path / "results/count_labels/waves").glob("*/labels.csv")
    assert pd.read_csv(counts)["samples"].sum() == 120


def test_examples__are_as_the_checks_want_them(extended: Path) -> None:
    ruff = str(Path(sys.executable).parent / "ruff")
    files = [str(extended / block.path) for block in blocks() if block.language == "python"]
    assert len(files) == 7
    for command in (["check"], ["format", "--check"]):
        options = ["--config", str(ROOT / "pyproject.toml"), "--config", "src = ['.']", "--no-cache"]
        done = subprocess.run(
            [ruff, *command, *options, *files], capture_output=True, text=True, check=False, cwd=extended
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_contributing__names_commands_and_files_that_are_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"^    make (\w+)", text, re.MULTILINE)) == {"lint", "test", "format"} < set(targets)
    new = {block.path for block in blocks()}
    named = {each for each in re.findall(r"`((?:kd|tests|envs|workflow)/[\w./]+\.\w+)`", text) if each not in new}
    assert len(named) > 8
    assert [each for each in sorted(named) if not (ROOT / each).is_file()] == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "theirs.wrong: cannot be imported: ModuleNotFoundError"),
        ("1 / 0\n", "theirs.wrong: cannot be imported: ZeroDivisionError"),
        ("", "theirs.wrong: has no Method, expected a Distiller, as the modules of kd.distillers have"),
        (text_of("kd/distillers/smooth_l1.py"), "theirs.wrong: Method has name 'smooth_l1', expected 'theirs.wrong'"),
    ],
)
def test_module_of_others__that_cannot_be_used_is_one_line(
    extended: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, said: str
) -> None:
    path = extended / "theirs/wrong.py"
    if text is None:
        path.unlink(missing_ok=True)
    else:
        path.write_text(text)
    raw: dict[str, Any] = config()
    raw["students"]["matched"]["distiller"] = {"name": "theirs.wrong"}
    monkeypatch.setenv("PYTHONPATH", str(extended))
    done = snakemake(tmp_path, "-n", config=raw, checkout=extended, share=False)
    assert done.returncode == 1
    assert said in done.stdout
    assert "Traceback" not in done.stdout
