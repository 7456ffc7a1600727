"""In what two descriptions of an artefact differ, in words: found -> wanted."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kd.artefacts.job import Job
from kd.common.errors import shown

ROOT = Path(__file__).parents[2]
_ABSENT = object()


def spec_differences(found: Any, wanted: Any, path: str = "") -> Iterator[str]:
    """Each differing field as a dotted path: `recipe.lr: 0.003 -> 0.01`."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for name in dict.fromkeys([*found, *wanted]):
            inner = f"{path}.{name}" if path else str(name)
            yield from spec_differences(found.get(name, _ABSENT), wanted.get(name, _ABSENT), inner)
    elif found != wanted:
        yield f"{shown(path)}: {_value(found)} -> {_value(wanted)}"


def _value(value: Any) -> str:
    return "absent" if value is _ABSENT else shown(json.dumps(value))


def code_differences(found: Mapping[str, str], wanted: Mapping[str, str]) -> Iterator[str]:
    """Each source file that differs."""
    for module in sorted({*found, *wanted}):
        file = shown(source_file(module))
        if module not in found:
            yield f"{file}: newly used"
        elif module not in wanted:
            yield f"{file}: no longer used"
        elif found[module] != wanted[module]:
            yield f"{file}: changed"


def source_file(module: str) -> str:
    """Path of a module within the checkout; that of somebody else's, by its name."""
    path = module.replace(".", "/")
    return f"{path}/__init__.py" if (ROOT / path).is_dir() else f"{path}.py"


def upstream_differences(found: Mapping[str, Mapping[str, Any]], wanted: Job) -> dict[str, str]:
    """A line for each role whose upstream differs."""
    told: dict[str, str] = {}
    for role in dict.fromkeys([*found, *wanted.upstream]):
        if role not in wanted.upstream:
            told[role] = f"{shown(role)}: no longer read"
        elif role not in found:
            told[role] = f"{role}: newly read"
        elif found[role]["identity"] != wanted.upstream[role].identity:
            told[role] = f"{role}: {found[role]['identity']} -> {wanted.upstream[role].identity}"
    return told


def job_differences(found: Mapping[str, Any], wanted: Job) -> list[str]:
    """Differences between a manifest and a job: of spec, upstreams and code."""
    return [
        *(f"spec {text}" for text in spec_differences(found["spec"], wanted.spec)),
        *(f"upstream {text}" for text in upstream_differences(found["upstream"], wanted).values()),
        *(f"code {text}" for text in code_differences(found["code"], wanted.code)),
    ]
