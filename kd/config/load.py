"""Config files: read, checked for what YAML takes in silence, and validated; mistakes in them, explained."""

from __future__ import annotations

import datetime as dt
import json
import re
import reprlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from kd.common.errors import UserError, did_you_mean
from kd.config.checks import find_problems
from kd.config.include import overlay, read_included
from kd.config.schema import Config

NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
MERGE = "tag:yaml.org,2002:merge"
MOST_SHOWN = 300  # characters of what was given
BOOLEANS = "YAML reads yes, no, on and off as true and false: put them in quotes if text is meant"


def read_config(*paths: Path) -> dict[str, Any]:
    """The content of config files, YAML or JSON, with what they include; the later ones win.

    Raises:
        UserError: one cannot be read or is no mapping, a key stands twice, or YAML reads a number otherwise than people
            do; or includes do not fit together. Keys are named with their lines.
    """
    whole: dict[str, Any] = {}
    for path in paths:
        whole = overlay(whole, read_included(path, _read_file))
    return whole


def read_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Top-level keys of a config from texts `KEY=VALUE`, with values in YAML, as of the option `--config`.

    Raises:
        UserError: a text is not KEY=VALUE, a key stands twice, or a value is not valid YAML.
    """
    read: dict[str, Any] = {}
    for each in settings:
        key, separator, value = each.partition("=")
        if not separator or not key.isidentifier():
            raise UserError(f"--config {each}: expected KEY=VALUE, with a key of the config's top level")
        if key in read:
            raise UserError(f"--config {each}: this key stands twice; expected once")
        read[key] = _read_yaml(f"--config {key}", value)
    return read


def _read_file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not text in UTF-8 ({error}); save it as UTF-8") from error
    try:
        read = json.loads(text, object_pairs_hook=_each_once)
    except (ValueError, RecursionError):
        read = _read_yaml(path, text)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if not isinstance(read, dict):
        raise UserError(f"{path}: holds {type(read).__name__}, expected the keys of a config")
    return read


def load_config(raw: dict[str, Any]) -> Config:
    """Validate a config.

    Raises:
        UserError: one message with every mistake: the key, what was given and what is allowed.
    """
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        problems = [_explain(detail) for detail in error.errors()]  # type: ignore[arg-type]
    else:
        problems = [*_misread_booleans(raw, config.model_dump(mode="json")), *find_problems(config)]
        if not problems:
            return config
    raise UserError("config: " + "\n        ".join(problems))


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a JSON object, refusing a key that stands twice."""
    read: dict[str, Any] = {}
    for name, value in pairs:
        if name in read:
            raise UserError(f"{name}: this key stands twice in one object; expected once")
        read[name] = value
    return read


def _read_yaml(place: Path | str, text: str) -> Any:
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        problems = [] if node is None else list(_problems(loader, node, "", {}))
        if problems:
            raise UserError(f"{place}: " + "\n        ".join(problems))
        return node and loader.construct_document(node)
    except (yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{place}{_explained(error, text)}") from error


def _explained(error: Exception, text: str) -> str:
    """Line, and what is wrong there, in one line."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return f": is not valid YAML: {' '.join(str(error).split())}"
    line = error.problem_mark.line
    hint = " (indent by blanks, not by tabs)" if "\t" in "".join(text.split("\n")[line : line + 1]) else ""
    return f", line {line + 1}: is not valid YAML: {', '.join(filter(None, (error.context, error.problem)))}{hint}"


def _problems(loader: Any, node: yaml.Node, key: str, finished: dict[int, bool]) -> Iterator[str]:
    """Mistakes that YAML accepts in silence, at a node and below it; `finished` holds the ids of nodes already seen."""
    if id(node) in finished:  # an alias
        if not finished[id(node)]:
            yield f"{key}: stands within itself, by an alias"
        return
    finished[id(node)] = False
    if isinstance(node, yaml.MappingNode):
        lines: dict[Any, int] = {}
        for name, value in node.value:
            inner = ".".join(filter(None, (key, str(name.value))))
            if isinstance(name, yaml.ScalarNode) and name.tag != MERGE:
                line, read = name.start_mark.line + 1, loader.construct_object(name)
                if read in lines:
                    yield f"{inner}: this key stands twice, in lines {lines[read]} and {line}; expected once"
                lines[read] = line
            yield from _problems(loader, value, inner, finished)
    elif isinstance(node, yaml.SequenceNode):
        for number, each in enumerate(node.value):
            yield from _problems(loader, each, ".".join(filter(None, (key, str(number)))), finished)
    else:
        yield from (": ".join(filter(None, (key, problem))) for problem in _misread(loader, node))
    finished[id(node)] = True


def _misread(loader: Any, node: yaml.Node) -> Iterator[str]:
    """A number that is octal because of a zero ahead of it, or sexagesimal because of a colon; no date."""
    place, text = f"in line {node.start_mark.line + 1}", node.value
    try:
        read = loader.construct_object(node)
    except ValueError as error:
        yield f"{text} {place} is no value ({error}); put it in quotes if text is meant"
        return
    if node.tag in NUMBERS and (":" in text or (re.fullmatch(r"[-+]?0\d+", text) and int(text) != read)):
        yield f"YAML reads {text} {place} as {read}; write {read}, or put it in quotes if text is meant"


def _explain(detail: dict[str, Any]) -> str:
    """One of the mistakes that pydantic found in a config: key, what is wrong, what was given."""
    location = [str(part) for part in detail["loc"] if part != "[key]"]
    key = ".".join(location)
    given = detail["input"]
    if detail["type"] == "extra_forbidden":
        allowed = _fields_at(location[:-1])
        return f"{key}: unknown key; {did_you_mean(location[-1], allowed)}allowed here: {', '.join(allowed)}"
    if detail["type"] == "missing":
        return f"{key}: missing, must be given"
    message = detail["msg"].removeprefix("Value error, ")
    shown = repr(given) if len(repr(given)) <= MOST_SHOWN else reprlib.repr(given)
    return f"{key}: {message[0].lower()}{message[1:]}; given: {shown}{_hint(detail['type'], given)}"


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


def _misread_booleans(given: Any, read: Any, key: str = "") -> Iterator[str]:
    """Yield where true or false was given and pydantic took it as 1 or 0: `read` is validated and dumped."""
    if isinstance(given, dict) and isinstance(read, dict):
        for name, value in given.items():
            yield from _misread_booleans(value, read.get(name), f"{key}.{name}" if key else name)
    elif isinstance(given, list | tuple) and isinstance(read, list | tuple):
        for number, (value, taken) in enumerate(zip(given, read, strict=False)):
            yield from _misread_booleans(value, taken, f"{key}.{number}")
    elif isinstance(given, bool) and not isinstance(read, bool):
        yield f"{key}: given: {given}, expected a number; {BOOLEANS}"


def _fields_at(location: list[str]) -> list[str]:
    """Keys that are allowed at a place of the config."""
    annotation: Any = Config
    for part in location:
        fields = next((each.model_fields for each in _models(annotation) if part in each.model_fields), None)
        if fields is not None:
            annotation = fields[part].annotation
        elif get_origin(annotation) is dict:
            annotation = get_args(annotation)[1]
    return next((list(each.model_fields) for each in _models(annotation)), [])


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The annotation itself, or the members of a union, as far as they are models."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) not in (dict, list):
        for argument in get_args(annotation):
            yield from _models(argument)
