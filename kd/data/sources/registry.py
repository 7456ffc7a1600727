"""Dataset sources by name. A new source is one new file in this folder, or a module of your own."""

from __future__ import annotations

from typing import Any, cast

from kd.common.options import BaseOptions
from kd.common.registry import Registry
from kd.data.sources.base import Archive, Source

SOURCES = Registry("kd.data.sources", others=("base", "registry", "files", "clean", "members", "official"))


def load_source(name: str) -> Source:
    """The source of that name."""
    return cast("Source", SOURCES.load(name))


def parse_source(source: dict[str, Any]) -> tuple[Source, BaseOptions]:
    """A `source` section, `type` and options, as the module and its typed options."""
    module = load_source(source["type"])
    return module, module.Options.model_validate({key: value for key, value in source.items() if key != "type"})


def archives_of(name: str) -> tuple[Archive, ...]:
    """What the source of that name can be downloaded as; nothing, if it cannot."""
    return getattr(load_source(name), "ARCHIVES", ())
