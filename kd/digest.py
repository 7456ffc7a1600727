"""Digests of the code that makes an artefact: syntax trees, so that comments and layout do not count, and data files.

Those of a stage cover its own module and every module of this package that it imports, directly or not.
Left out is `kd.jobs`, the frame around the stages, which cannot change what they compute. Members of a
registry (sources, distillers) are loaded by name and so are not imported by any stage: the plan adds the one
that a spec names.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent
NEUTRAL = "kd.jobs"


def code_digests(*modules: str) -> dict[str, str]:
    """16 hex digits for each module in the import closure of some modules of this package."""
    return {name: _module_digest(name) for name in sorted(_closure(modules))}


@cache
def _closure(modules: tuple[str, ...]) -> frozenset[str]:
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name not in found and not name.startswith(NEUTRAL):
            found.add(name)
            waiting += _imports(name)
    return frozenset(found)


def _path(module: str) -> Path | None:
    base = PACKAGE.parent.joinpath(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


@cache
def _tree(module: str) -> ast.Module:
    path = _path(module)
    assert path is not None, module
    return ast.parse(path.read_text(), filename=str(path))


@cache
def _module_digest(module: str) -> str:
    digest = hashlib.sha256("".join(_dump(_tree(module))).encode())
    for path in _data(module):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _data(module: str) -> list[Path]:
    """Files of data that a module `name.py` keeps in the folder `name` beside it."""
    path = _path(module)
    assert path is not None, module
    return [] if path.stem == "__init__" else sorted(path.with_suffix("").glob("*.csv"))


def _dump(node: object) -> Iterator[str]:
    """A text of a syntax tree without positions and docstrings, equal under all Python versions.

    Empty fields are left out, since new versions of Python add some.
    """
    if isinstance(node, ast.AST):
        yield f"({type(node).__name__}"
        for name, value in ast.iter_fields(node):
            if value not in (None, []):
                yield f" {name}="
                yield from _dump(value)
        yield ")"
    elif isinstance(node, list):
        for child in node:
            if not _is_docstring(child):
                yield from _dump(child)
    else:
        yield repr(node)


def _is_docstring(node: object) -> bool:
    """Any bare string: docstrings of modules, classes, functions and attributes."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


@cache
def _imports(module: str) -> tuple[str, ...]:
    """Modules of this package that a module imports when it runs."""
    names: list[str] = []
    for node in _running_nodes(_tree(module)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(name for name in names if name.split(".")[0] == "kd" and _path(name) is not None)


def _running_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes, without what only type checkers see."""
    for child in ast.iter_child_nodes(node):
        only_types = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
        if not only_types:
            yield child
            yield from _running_nodes(child)
