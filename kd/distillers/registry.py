"""Distillation methods by name. A new method is one new file in this folder."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any, cast

import kd.distillers
from kd.distillers.base import Distiller

_NOT_METHODS = {"base", "losses", "registry"}


def distiller_names() -> list[str]:
    """Names that `distiller.name` may have."""
    found = pkgutil.iter_modules(kd.distillers.__path__)
    return sorted(module.name for module in found if module.name not in _NOT_METHODS)


def distiller_module(name: str) -> str:
    """Dotted name of the module that implements a method."""
    return f"kd.distillers.{name}"


def load_distiller(name: str) -> type[Distiller]:
    """The method of that name."""
    return cast("type[Distiller]", importlib.import_module(distiller_module(name)).Method)


def parse_distiller(section: dict[str, Any]) -> Distiller:
    """A `distiller` section, `name` and options, as a method."""
    return load_distiller(section["name"]).model_validate(section)
