"""Config files: read, checked for what YAML takes in silence, and validated."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from kd.common.errors import UserError
from kd.config.checks import find_problems
from kd.config.explanation import explain, misread_booleans
from kd.config.include import overlay, read_included
from kd.config.schema import Config

NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
MERGE = "tag:yaml.org,2002:merge"


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
        problems = [explain(Config, detail) for detail in error.errors()]  # type: ignore[arg-type]
    else:
        problems = [*misread_booleans(raw, config.model_dump(mode="json")), *find_problems(config)]
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


def _read_yaml(path: Path, text: str) -> Any:
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        problems = [] if node is None else list(_problems(loader, node, "", {}))
        if problems:
            raise UserError(f"{path}: " + "\n        ".join(problems))
        return node and loader.construct_document(node)
    except (yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{path}{_explained(error, text)}") from error


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
            yield from _problems(loader, each, f"{key}.{number}", finished)
    else:
        yield from (f"{key}: {problem}" for problem in _misread(loader, node))
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
