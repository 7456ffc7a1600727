"""Distillation methods by name. A new method is one new file in this folder."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any, cast

import kd.distillers
from kd.distillers.base import Distiller, DistillerOptions

_NOT_METHODS = {"base", "registry"}


def distiller_names() -> list[str]:
    """Names that `distiller.name` may have."""
    found = pkgutil.iter_modules(kd.distillers.__path__)
    return sorted(module.name for module in found if module.name not in _NOT_METHODS)


def distiller_module(name: str) -> str:
    """Dotted name of the module that implements a method."""
    return f"kd.distillers.{name}"


def load_distiller(name: str) -> Distiller:
    """The method of that name."""
    return cast("Distiller", importlib.import_module(distiller_module(name)))


def parse_distiller(distiller: dict[str, Any]) -> tuple[Distiller, DistillerOptions]:
    """A `distiller` section, `name` and options, as the module and its typed options."""
    method = load_distiller(distiller["name"])
    return method, method.Options.model_validate(distiller)
