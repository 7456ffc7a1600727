"""Mistakes in a config, explained: the key, what was given, what is allowed, and how YAML may have misread it."""

from __future__ import annotations

import datetime as dt
import re
import reprlib
from collections.abc import Iterator
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from kd.common.errors import did_you_mean

MOST_SHOWN = 300  # characters of what was given
BOOLEANS = "YAML reads yes, no, on and off as true and false: put them in quotes if text is meant"


def explain(model: type[BaseModel], detail: dict[str, Any]) -> str:
    """One of the mistakes that pydantic found while it validated `model`: key, what is wrong, what was given."""
    location = [str(part) for part in detail["loc"] if part != "[key]"]
    key = ".".join(location)
    given = detail["input"]
    if detail["type"] == "extra_forbidden":
        allowed = _fields_at(model, location[:-1])
        return f"{key}: unknown key; {did_you_mean(location[-1], allowed)}allowed here: {', '.join(allowed)}"
    if detail["type"] == "missing":
        return f"{key}: missing, must be given"
    message = detail["msg"].removeprefix("Value error, ")
    return f"{key}: {message[0].lower()}{message[1:]}; given: {_shown(given)}{_hint(detail['type'], given)}"


def _shown(given: Any) -> str:
    """A value, in short where it is long."""
    shown = repr(given)
    return shown if len(shown) <= MOST_SHOWN else reprlib.repr(given)


def _hint(kind: str, given: Any) -> str:
    """A hint where YAML may have read something else than was meant."""
    if isinstance(given, bool):
        return f"; {BOOLEANS}"
    if isinstance(given, dt.date):
        return f"; YAML reads {given} as a date: put it in quotes, or leave out the dashes if a number is meant"
    if isinstance(given, int | float) and kind in ("string_type", "literal_error"):
        return "; put it in quotes, as YAML reads it as a number"
    if kind == "int_parsing" and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+]?\d{1,2}", given):
        return f"; write {float(given):.0f}"
    return ""


def misread_booleans(given: Any, read: Any, key: str = "") -> Iterator[str]:
    """Yield where true or false was given and pydantic took it as 1 or 0.

    Args:
        given: a config as it was given.
        read: the same, validated and dumped.
        key: of this part of it.
    """
    if isinstance(given, dict) and isinstance(read, dict):
        for name, value in given.items():
            yield from misread_booleans(value, read.get(name), f"{key}.{name}" if key else name)
    elif isinstance(given, list | tuple) and isinstance(read, list | tuple):
        for number, (value, taken) in enumerate(zip(given, read, strict=False)):
            yield from misread_booleans(value, taken, f"{key}.{number}")
    elif isinstance(given, bool) and not isinstance(read, bool):
        yield f"{key}: given: {given}, expected a number; {BOOLEANS}"


def _fields_at(model: type[BaseModel], location: list[str]) -> list[str]:
    """Keys that are allowed at a place of the config."""
    annotation: Any = model
    for part in location:
        models = [each for each in _leaves(annotation) if isinstance(each, type) and issubclass(each, BaseModel)]
        fields = next((each.model_fields for each in models if part in each.model_fields), None)
        if fields is not None:
            annotation = fields[part].annotation
        elif get_origin(annotation) is dict:
            annotation = get_args(annotation)[1]
    names = [
        list(each.model_fields)
        for each in _leaves(annotation)
        if isinstance(each, type) and issubclass(each, BaseModel)
    ]
    return names[0] if names else []


def _leaves(annotation: Any) -> Iterator[Any]:
    """The annotation itself, or the members of a union."""
    if get_origin(annotation) in (dict, list, None):
        yield annotation
    else:
        for argument in get_args(annotation):
            yield from _leaves(argument)
