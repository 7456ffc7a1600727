"""Tables of the keys of an option class: name, type, default and the docstring below the field."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from typing import Any

import yaml
from pydantic import BaseModel

SECTIONS = {"source": "section: `type` and its options", "distiller": "section: `name` and its options"}
"""Fields whose schema is that of one of many classes, which have tables of their own."""
PLAIN = {"integer": "whole number", "number": "number", "string": "text", "boolean": "`true` or `false`"}
BOUNDS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
MOST = 1e18
"""Bounds from here on are those of the computer, and not shown."""

Schema = Mapping[str, Any]


def code(value: object) -> str:
    """A value as YAML has it on one line, as inline code."""
    text = yaml.safe_dump(_whole(value), default_flow_style=True, sort_keys=False, width=MOST)
    return f"`{text.strip().removesuffix('...').strip()}`"


def _whole(value: Any) -> Any:
    """Numbers that are whole are shown so: 30000 for 30000.0."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return [_whole(each) for each in value] if isinstance(value, list | tuple) else value


def cell(text: str) -> str:
    """A text as one cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def table(header: tuple[str, ...], rows: Collection[tuple[str, ...]]) -> str:
    """A table in Markdown, with a new line at its end."""
    lines = [header, tuple("---" for _ in header), *(tuple(map(cell, row)) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def table_of(options: type[BaseModel], leave_out: Collection[str] = ()) -> str:
    """The keys of an option class as a table; empty where it has none.

    Args:
        options: whose fields are shown: those that must be given, then others of its own, then inherited ones.
        leave_out: fields that are not shown, since the program fills them in or another table has them.
    """
    schema = options.model_json_schema()
    fields = {name: each for name, each in schema.get("properties", {}).items() if name not in leave_out}
    required, own = schema.get("required", ()), inspect.get_annotations(options)
    shown = {name: fields[name] for name in sorted(fields, key=lambda name: (name not in required, name not in own))}
    rows = [
        (
            f"`{name}`",
            SECTIONS.get(name) or type_of(each, schema),
            default_of(each, schema),
            each.get("description", ""),
        )
        for name, each in shown.items()
    ]
    return table(("key", "type", "default", "meaning"), rows) if rows else ""


def default_of(field: Schema, root: Schema) -> str:
    """The default of a field in words."""
    if "default" not in field:
        return "required"
    value = field["default"]
    if isinstance(value, dict) and _is_section(field, root):
        return "its defaults"
    return code(value)


def type_of(field: Schema, root: Schema) -> str:
    """The values that a field takes, in words.

    Args:
        field: its JSON schema.
        root: the schema that it is part of, with the definitions that it refers to.
    """
    if _is_section(field, root):
        return "section"
    if "anyOf" in field:
        kinds = dict.fromkeys(type_of(each, root) for each in field["anyOf"])
        return " or ".join(kinds).replace(" or `null`", ", or `null`")
    if "enum" in field:
        return ", ".join(map(code, field["enum"][:-1])) + f" or {code(field['enum'][-1])}"
    if "const" in field:
        return code(field["const"])
    match field.get("type"):
        case "null":
            return "`null`"
        case "array" if "prefixItems" in field:
            items = [type_of(each, root) for each in field["prefixItems"]]
            return f"list of {len(items)}: {', '.join(dict.fromkeys(items))}"
        case "array":
            return f"list of: {type_of(field.get('items', {}), root)}"
        case "object":
            values = field.get("additionalProperties") or next(iter(field.get("patternProperties", {}).values()), None)
            return f"mapping of names to: {type_of(values, root)}" if isinstance(values, dict) else "mapping"
        case "string" if field.get("format") == "path":
            return "path"
        case str(kind):
            bounds = [f"{words} {field[key]:g}" for key, words in BOUNDS.items() if field.get(key, MOST) < MOST]
            return " ".join([PLAIN[kind], " and ".join(bounds)]).strip()
    return "any value"


def _is_section(field: Schema, root: Schema) -> bool:
    """Whether it is an option class of its own."""
    if "$ref" not in field:
        return False
    return "properties" in root["$defs"][field["$ref"].rsplit("/", 1)[-1]]
