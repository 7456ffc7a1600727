"""`python -m kd methods`: the distillation methods that a config can name. Imports no torch."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import get_args

from kd.common.errors import UserError, did_you_mean
from kd.distillers.base import Distiller
from kd.distillers.registry import METHODS, load_distiller
from kd.models.spec import Level

HEADER = ("method", "tasks", "compares with the teacher", "what it is")


def list_methods() -> Iterator[str]:
    """A line for each method: its name, the tasks it is for, what it needs of the teacher, and what it is.

    One of another package has that at the end; one that cannot be used says why.
    """
    rows, broken = [HEADER], []
    for name in METHODS.names():
        package = METHODS.package_of(name)
        try:
            METHODS.knows(name)
            method = load_distiller(name)
            what = docstring_of(name).partition("\n")[0]
            rows.append((name, ", ".join(method.TASKS), _needs(method), f"{what} [{package}]" if package else what))
        except Exception as error:
            if not package:
                raise
            broken.append(f"broken: {name}: {error if isinstance(error, UserError) else f'{package}: {error!r}'}")
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    yield from broken


def describe_method(name: str) -> Iterator[str]:
    """The page of a method: its docstring, what it needs of the teacher, and its options with defaults.

    Raises:
        UserError: there is no such method, or it cannot be used.
    """
    if not METHODS.knows(name):
        known = METHODS.names()
        raise UserError(f"{name}: no method of this name; {did_you_mean(name, known)}known: {', '.join(known)}")
    method = load_distiller(name)
    yield from docstring_of(name).splitlines()
    yield ""
    yield f"Tasks: {', '.join(method.TASKS)}"
    yield f"Compares with the teacher: {_needs(method)}"
    yield f"Module: {METHODS.module(name)}"
    if package := METHODS.package_of(name):
        yield f"Package: {package}"
    yield ""
    yield "Options, with their defaults:"
    properties = method.model_json_schema()["properties"]
    for option, described in properties.items():
        if option == "name":
            continue
        yield f"  {option}: {_plain(described.get('default'))}"
        yield from (f"      {line}" for line in described.get("description", "").splitlines())


def docstring_of(name: str) -> str:
    """The docstring of the module of a method."""
    return inspect.cleandoc(METHODS.load(name).__doc__ or "(its module has no docstring)")


def _needs(method: type[Distiller]) -> str:
    """The arrays that a method with its default options compares, and those that depend on the level in the config."""
    made = method.model_validate({})
    by_level = [made.required(level).names() for level in get_args(Level)]
    always = [each for each in by_level[0] if all(each in names for names in by_level)]
    sometimes = sorted({each for names in by_level for each in names} - set(always))
    needs = [*always, *(f"{each} by level" for each in sometimes)]
    return ", ".join(needs).replace("_", " ") or "nothing"


def _plain(value: object) -> str:
    """As YAML has it."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_plain, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
