"""Config files that include others: `include: [a.yaml, b.yaml]`, paths that start from the file that lists them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

from kd.common.errors import UserError, shown

INCLUDE = "include"
SCHEMA = {
    "type": "array",
    "items": {"type": "string"},
    "default": [],
    "description": "List of config files that this one begins with, by paths from its folder; its own keys win.",
}


def read_included(path: Path, read: Callable[[Path], dict[str, Any]], within: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The content of a config file, laid over that of the files that it includes, key by key at every depth.

    Args:
        path: of the file.
        read: reads one file.
        within: files that include this one.

    Raises:
        UserError: a file that is included is missing or includes itself; or two of them say different things of one
            key, of which the file that includes both says nothing.
    """
    chain = (*within, path.resolve())
    if chain[-1] in within:
        names = " includes ".join(each.name for each in chain[within.index(chain[-1]) :])
        raise UserError(f"{path}: include: {names}; a file cannot include itself")
    own = read(path)
    named = own.pop(INCLUDE, [])
    if not isinstance(named, list) or not all(isinstance(each, str) for each in named):
        raise UserError(f"{path}: include: given {shown(named)}, expected a list of paths of config files")
    included = []
    for name in named:
        if not (path.parent / name).is_file():
            raise UserError(f"{path}: include: {name}: {path.parent / name} is not a file")
        included.append(read_included(path.parent / name, read, chain))
    for (first, one), (second, other) in combinations(zip(named, included, strict=True), 2):
        for key in _clashes(one, other, own):
            raise UserError(f"{path}: include: {first} and {second} differ in {key}; say here what it is")
    whole: dict[str, Any] = {}
    for each in (*included, own):
        whole = overlay(whole, each)
    return whole


def overlay(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Both contents, where `more` wins; keys of `base` keep their places."""
    whole = dict(base)
    for key, value in more.items():
        before = whole.get(key)
        both = isinstance(before, Mapping) and isinstance(value, Mapping)
        whole[key] = overlay(before, value) if both else value  # type: ignore[arg-type]
    return whole


def _clashes(one: Mapping[str, Any], other: Mapping[str, Any], own: Mapping[str, Any]) -> Iterator[str]:
    """Keys that two contents differ in, and of which `own` says nothing."""
    for key in (each for each in one if each in other):
        values = one[key], other[key], own.get(key, {})
        if all(isinstance(each, Mapping) for each in values):
            yield from (f"{key}.{inner}" for inner in _clashes(*values))
        elif key not in own and one[key] != other[key]:
            yield str(key)
