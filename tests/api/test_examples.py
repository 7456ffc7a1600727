"""The examples run as they are, outside of the repository."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
