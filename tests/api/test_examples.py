"""The examples run as they are, outside of the repository."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import ROOT

SCRIPTS = sorted(ROOT.glob("examples/*.py"))
MOST_LINES = 30  # what one screen shows


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_examples__scripts_run(tmp_path: Path, script: Path) -> None:
    assert len(script.read_text().splitlines()) <= MOST_LINES
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "loss" in done.stdout or "mlfd: " in done.stdout


def test_examples__the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is stored, without outputs, in a kernel of its own."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (*paths,) = ROOT.glob("examples/*.ipynb")
    assert paths
    for path in paths:
        notebook: Any = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
        assert not any(cell.get("outputs") for cell in notebook.cells)
        NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
        last = [cell for cell in notebook.cells if cell.cell_type == "code"][-1]
        assert "student of the joint teacher" in str(last.outputs)
