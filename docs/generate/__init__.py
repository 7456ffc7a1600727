"""Pages and tables that are made from the code itself, so that nobody repeats it by hand."""

from __future__ import annotations

from pathlib import Path

from kd.common.registry import Registry

ROOT = Path(__file__).resolve().parents[2]


def ours(registry: Registry) -> list[str]:
    """The names of a registry that are those of our own files, whatever other packages are installed."""
    return registry.own()
