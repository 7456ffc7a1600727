"""Digests of the code that makes an artefact: of the definitions that it can reach, and of no others.

A definition is a function, a class, or a constant at the top of a module of this package. From the modules that make an
artefact (its stage, and what the spec names, such as a distillation method) every name is followed that their code
uses, through imports, to the definition that it stands for, and so on. So a helper that is added beside a loss counts
for no artefact until a method calls it. Digests are of syntax trees: comments, docstrings and layout do not count.

Left out are `kd.jobs`, `kd.artefacts` and errors, the frame around the stages, which cannot change what they compute;
and libraries, whose versions are recorded instead. Modules that are loaded by a name in the spec are found by no
import: the plan adds them, and where they are somebody else's, what their own package has counts, too; of a compiled
module its bytes.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from kd.common.errors import UserError

PACKAGE = Path(__file__).parents[1]
NEUTRAL = ("kd.jobs", "kd.artefacts", "kd.common.errors")
WHOLE = "*"
"""Stands for every definition of a module."""

Place = tuple[str, str]
"""A definition: module and name."""

Packages = frozenset[str]
"""Top-level packages whose code counts."""


def code_digests(*modules: str) -> dict[str, str]:
    """16 hex digits for each module that can be reached from whole modules, or from definitions, MODULE:NAME."""
    packages = _packages(modules)
    return {name: _digest(name, reached, packages) for name, reached in sorted(reachable(modules).items())}


def _packages(modules: Iterable[str]) -> Packages:
    return frozenset({PACKAGE.name, *(re.split("[.:]", module)[0] for module in modules)})


@cache
def reachable(modules: tuple[str, ...]) -> dict[str, frozenset[str]]:
    """The names that can be reached from all that some modules define, by module."""
    packages = _packages(modules)
    found: dict[str, set[str]] = defaultdict(set)
    waiting: list[Place] = []
    for root in modules:
        module, _, name = root.partition(":")
        waiting.append((module, name or WHOLE))
    while waiting:
        module, name = waiting.pop()
        if module.startswith(NEUTRAL) or name in found.get(module, ()):
            continue
        parsed = _parse(module, packages)
        if module not in found:
            waiting += _references(module, None, packages)
        found[module].add(name)
        names = [*parsed.definitions, *parsed.imports] if name == WHOLE else [name]
        for each in names:
            if each in parsed.imports:
                waiting += parsed.imports[each]
            elif each in parsed.definitions:
                found[module].add(each)
                waiting += _references(module, each, packages)
            else:  # made in a way that is not understood
                waiting.append((module, WHOLE))
    return {module: frozenset(names) for module, names in found.items()}


@dataclass
class _Module:
    """A module taken apart.

    Attributes:
        definitions: statements by the name that they define.
        effects: statements that define nothing, such as calls; they run whatever of the module is used.
        imports: what a name stands for that comes from a module of one of the packages; `WHOLE` for a module. `import
            a.b` and `import a.c` are of one name, so there may be several.
    """

    definitions: dict[str, list[ast.stmt]] = field(default_factory=lambda: defaultdict(list))
    effects: list[ast.stmt] = field(default_factory=list)
    imports: dict[str, set[Place]] = field(default_factory=lambda: defaultdict(set))


@cache
def _parse(module: str, packages: Packages) -> _Module:
    path = _path(module, packages)
    if path is None:
        raise UserError(f"{module}: no such module, or not one that is a file")
    parsed = _Module()
    if path.suffix != ".py":  # compiled: its bytes count, and what it imports is not known
        return parsed
    for node in ast.parse(path.read_text(), filename=str(path)).body:
        if _only_for_types(node):
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            for bound, place in _imported(node, module, packages):
                parsed.imports[bound].add(place)
            continue
        defined = list(_defined(node))
        for name in defined:
            parsed.definitions[name].append(node)
        if not defined:
            parsed.effects.append(node)
    return parsed


def _defined(node: ast.stmt) -> Iterator[str]:
    """Names that a statement at the top of a module defines."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
        return
    for each in ast.walk(node):
        if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store):
            yield each.id
        elif isinstance(each, ast.FunctionDef | ast.ClassDef):
            yield each.name


def _imported(node: ast.AST, module: str, packages: Packages) -> Iterator[tuple[str, Place]]:
    """Each name that an import in a module binds, and what it stands for, if that is in one of the packages."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            if _path(alias.name, packages) is not None:
                yield alias.asname or alias.name.split(".")[0], (alias.name, WHOLE)
    elif isinstance(node, ast.ImportFrom):
        source = _source(node, module, packages)
        for alias in node.names:
            inner = f"{source}.{alias.name}"
            if _path(inner, packages) is not None:  # a module, also of a package that is no file itself
                yield alias.asname or alias.name, (inner, WHOLE)
            elif _path(source, packages) is not None:
                yield alias.asname or alias.name, (source, alias.name)


def _source(node: ast.ImportFrom, module: str, packages: Packages) -> str:
    """Full name of the module that `from ... import` names, which may begin with dots."""
    if not node.level:
        return node.module or ""
    path = _path(module, packages)
    package = module if path is not None and path.stem == "__init__" else module.rpartition(".")[0]
    return importlib.util.resolve_name("." * node.level + (node.module or ""), package)


@cache
def _references(module: str, name: str | None, packages: Packages) -> tuple[Place, ...]:
    """What a definition uses of the packages, or, without a name, what the effects of a module use."""
    parsed = _parse(module, packages)
    found: set[Place] = set()
    for node in parsed.effects if name is None else parsed.definitions[name]:
        nodes = list(_running_nodes(node))
        inner: dict[str, set[Place]] = defaultdict(set)
        for each in nodes:
            if isinstance(each, ast.Import | ast.ImportFrom):
                for bound, place in _imported(each, module, packages):
                    inner[bound].add(place)
        known = parsed.imports | inner
        attributes = {
            id(each.value): each.attr
            for each in nodes
            if isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name)
        }
        for each in nodes:
            if not isinstance(each, ast.Name):
                continue
            if each.id in known:
                for source, what in known[each.id]:
                    # Of a module that is named with an attribute, that alone is used.
                    found.add((source, attributes.get(id(each), WHOLE) if what == WHOLE else what))
            elif each.id in parsed.definitions and each.id != name:
                found.add((module, each.id))
    return tuple(sorted(found))


def _running_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """A node and all below it, without what only type checkers see: signatures' types, and imports for these."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        yield node
        for name, value in ast.iter_fields(node):
            if name == "returns" or (name == "annotation" and isinstance(node, ast.arg)):
                continue
            children = value if isinstance(value, list) else [value]
            waiting += [child for child in children if isinstance(child, ast.AST) and not _only_for_types(child)]


def _only_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


@cache
def _path(module: str, packages: Packages) -> Path | None:
    """The file of a module of these packages; None: it is of another, or there is none."""
    package = module.split(".", maxsplit=1)[0]
    if package not in packages:
        return None
    if package != PACKAGE.name:
        try:
            spec = importlib.util.find_spec(module)
        except (ImportError, ValueError):
            return None
        path = Path(spec.origin) if spec is not None and spec.has_location and spec.origin else None
        return path if path is not None and path.is_file() else None
    base = PACKAGE.parent.joinpath(*module.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


@cache
def _digest(module: str, names: frozenset[str], packages: Packages) -> str:
    """The digest of some definitions of a module, of its effects, and of the data files beside it."""
    digest = hashlib.sha256()
    for name in sorted(names & _parse(module, packages).definitions.keys()):
        digest.update((name + _text(module, name, packages)).encode())
    digest.update(_text(module, None, packages).encode())
    path = _path(module, packages)
    assert path is not None, module
    if path.suffix != ".py":
        digest.update(path.read_bytes())
    for data in sorted(path.with_suffix("").glob("*.csv")):  # in the folder `name` beside `name.py`
        digest.update(data.name.encode() + data.read_bytes())
    return digest.hexdigest()[:16]


@cache
def _text(module: str, name: str | None, packages: Packages) -> str:
    """The syntax trees of a definition or, without a name, of the effects of a module."""
    parsed = _parse(module, packages)
    return _dump(parsed.effects if name is None else parsed.definitions[name])


def _dump(node: Any) -> str:
    """A syntax tree without positions and docstrings, as text that is equal under all Python versions.

    Empty fields are left out, since new versions of Python add some.
    """
    if isinstance(node, ast.AST):
        fields = [f" {name}={_dump(value)}" for name, value in ast.iter_fields(node) if value not in (None, [])]
        return f"({type(node).__name__}{''.join(fields)})"
    if isinstance(node, list):
        return "".join([_dump(child) for child in node if not _is_docstring(child)])
    return repr(node)


def _is_docstring(node: object) -> bool:
    """Any bare string: docstrings of modules, classes, functions and attributes."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
