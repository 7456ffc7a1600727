"""Distillation methods by name. A new method is one new file in this folder, or a module of your own."""

from __future__ import annotations

from typing import Any, cast

from kd.common.registry import Registry
from kd.distillers.base import Distiller

METHODS = Registry("kd.distillers", others=("base", "losses", "registry"))


def load_distiller(name: str) -> type[Distiller]:
    """The method of that name."""
    return cast("type[Distiller]", METHODS.load(name).Method)


def parse_distiller(section: dict[str, Any]) -> Distiller:
    """A `distiller` section, `name` and options, as a method."""
    return load_distiller(section["name"]).model_validate(section)
