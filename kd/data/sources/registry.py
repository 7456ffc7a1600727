"""Dataset sources by name. A new source is one new file in this folder."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any, cast

import kd.data.sources
from kd.data.sources.base import Source
from kd.options import BaseOptions

_NOT_SOURCES = {"base", "registry", "listing", "listed"}


def source_names() -> list[str]:
    """Names that `type` may have in the `source` section of a dataset."""
    found = pkgutil.iter_modules(kd.data.sources.__path__)
    return sorted(module.name for module in found if module.name not in _NOT_SOURCES)


def source_module(name: str) -> str:
    """Dotted name of the module that implements a source."""
    return f"kd.data.sources.{name}"


def load_source(name: str) -> Source:
    """The source of that name."""
    return cast("Source", importlib.import_module(source_module(name)))


def parse_source(source: dict[str, Any]) -> tuple[Source, BaseOptions]:
    """A `source` section, `type` and options, as the module and its typed options."""
    module = load_source(source["type"])
    return module, module.Options.model_validate({key: value for key, value in source.items() if key != "type"})
