"""Pages and tables that are made from the code itself, so that nobody repeats it by hand."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
