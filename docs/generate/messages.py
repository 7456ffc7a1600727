"""A page with every error text of the program, found in its syntax trees.

What is said of a mistake is the argument of `UserError(...)`, or of an error derived from it; in a validator of options
that of `ValueError(...)`; and what functions that look for mistakes in a config yield. A part of it may be put together
before: by assignments of the same function, by another function of the same file, or by who calls the function. Then
that part is listed below it. Rules of the workflow, which are no plain Python, say theirs by `Error(...)`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

from docs.generate import ROOT

PACKAGE = ROOT / "kd"
YIELDED = ("kd/config/", "kd/models/backbones/", "kd/verification/")
"""Where functions yield mistakes in words."""
LONGEST = 30  # characters of code that may stand for a value
OPEN, CLOSE = "\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}", "\N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK}"
INTRODUCTION = f"""\
# Error messages

A mistake in a config, in data or on the machine is told in one line that begins with `error:`. Below are all texts that
such a line can have, by the package and the file that say them. {OPEN}name{CLOSE} stands for what is put in there, and
where that is itself a text of several words, it is listed below. Search this page for words of the message that are
neither names nor numbers. [Troubleshooting](../troubleshooting.md) says what to do about those that are met most often.
"""


@dataclass(frozen=True)
class Message:
    """One error text.

    Attributes:
        text: with a name in angle quotation marks for each value that is put in.
        parts: texts that such a value can be.
        file: that says it, such as `kd/data/splits.py`.
        line: of the call or `yield`, from 1.
        raised: whether it is that of a UserError.
    """

    text: str
    parts: tuple[str, ...]
    file: str
    line: int
    raised: bool


@cache
def trees() -> dict[str, ast.Module]:
    """Every module of kd, by its file."""
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def constants() -> dict[str, str]:
    """Texts that modules of kd have under a name in capitals."""
    found = {}
    for tree in trees().values():
        for node in tree.body:
            match node:
                case ast.Assign([ast.Name(name)], ast.Constant(str(text))) if name.isupper() and " " in text:
                    found[name] = text
    return found


@cache
def calls() -> dict[str, list[ast.Call]]:
    """Calls in kd, by the name of what is called."""
    found: dict[str, list[ast.Call]] = {}
    for tree in trees().values():
        for node in ast.walk(tree):
            match node:
                case ast.Call(ast.Name(name) | ast.Attribute(attr=name)):
                    found.setdefault(name, []).append(node)
    return found


@cache
def error_classes() -> frozenset[str]:
    """UserError, and what is derived from it."""
    names = {"UserError"}
    for tree in trees().values():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and names & {
                base.id for base in node.bases if isinstance(base, ast.Name)
            }:
                names.add(node.name)
    return frozenset(names)


def name_of(node: ast.expr) -> str:
    """A short name for a value that is put into a text."""
    match node:
        case ast.Name(name) | ast.Attribute(attr=name):
            return name.strip("_")
        case ast.Constant(value):
            return str(value)
        case ast.Call(ast.Attribute(value=ast.Constant(), attr="join"), [inner, *_]):
            return name_of(inner)
        case ast.Call(ast.Name("map"), [_, inner, *_]):
            return name_of(inner)
        case ast.Call(ast.Name("shown" | "repr" | "str" | "sorted" | "list" | "readable" | "next"), [inner, *_]):
            return name_of(inner)
        case ast.Call(ast.Name(name) | ast.Attribute(attr=name)):
            return name.strip("_")
        case ast.Subscript(value) | ast.Starred(value) | ast.FormattedValue(value):
            return name_of(value)
        case ast.IfExp(body=body) | ast.BoolOp(values=[body, *_]):
            return name_of(body)
        case ast.GeneratorExp(elt) | ast.ListComp(elt):
            return name_of(elt)
    text = ast.unparse(node)
    return text if len(text) <= LONGEST else "…"


def text_of(node: ast.expr) -> str:
    """A text, with a name for each value that is put in."""
    match node:
        case ast.Constant(str(text)):
            return text
        case ast.JoinedStr(parts):
            return "".join(text_of(part) for part in parts)
        case ast.FormattedValue(ast.Constant(str(text))):
            return text
        case ast.Name(name) | ast.FormattedValue(ast.Name(name)) if name in constants():
            return constants()[name]
        case ast.BinOp(left, ast.Add(), right):
            return text_of(left) + text_of(right)
        case ast.Call(ast.Attribute(value=ast.Constant(str(joint)), attr="join"), [ast.List(parts)]):
            return joint.join(map(text_of, parts))
    return f"{OPEN}{name_of(node)}{CLOSE}"


def _says_something(text: str) -> bool:
    """Whether it has two words beside the names."""
    words = re.findall(r"[^\W\d]{2,}", re.sub(f"{OPEN}.*?{CLOSE}", "", text))
    return len(words) > 1 and " " in text.strip()


def _texts_in(nodes: Iterator[ast.expr]) -> Iterator[str]:
    """Texts of several words among some expressions and what they consist of, the longest of those in each other."""
    for node in nodes:
        if isinstance(node, ast.Constant | ast.JoinedStr) and _says_something(text := text_of(node)):
            yield text
        elif not isinstance(node, ast.Constant | ast.JoinedStr):
            yield from _texts_in(each for each in ast.iter_child_nodes(node) if isinstance(each, ast.expr))


def _assigned(name: str, function: ast.FunctionDef) -> Iterator[ast.expr]:
    """What a function assigns to a name."""
    for node in ast.walk(function):
        match node:
            case ast.Assign([ast.Name(target)], value) | ast.NamedExpr(ast.Name(target), value) if target == name:
                yield value
            case ast.AugAssign(ast.Name(target), value=value) if target == name:
                yield value


def _returned(name: str, tree: ast.Module) -> Iterator[ast.expr]:
    """What a function of a module returns or yields."""
    for function in tree.body:
        if isinstance(function, ast.FunctionDef) and function.name == name:
            for node in ast.walk(function):
                if isinstance(node, ast.Return | ast.Yield) and node.value is not None:
                    yield node.value


def _handed(name: str, function: ast.FunctionDef) -> Iterator[ast.expr]:
    """What callers anywhere in kd hand to a parameter of a function; nothing where it has no such parameter."""
    names = [each.arg for each in function.args.args if each.arg != "self"]
    for call in calls().get(function.name, ()) if name in names else ():
        yield from call.args[names.index(name) :][:1]
        yield from (each.value for each in call.keywords if each.arg == name)


def parts_of(text: ast.expr, function: ast.FunctionDef | None, tree: ast.Module) -> tuple[str, ...]:
    """Texts that values within a text can be."""
    found: list[str] = []
    for node in ast.walk(text):
        match node:
            case ast.Name(name) if function is not None:
                values = [*_assigned(name, function), *_handed(name, function)]
                found += _texts_in(iter(values))
                called = [
                    each.func.id for each in values if isinstance(each, ast.Call) and isinstance(each.func, ast.Name)
                ]
                found += [each for function_name in called for each in _texts_in(_returned(function_name, tree))]
            case ast.Call(ast.Name(name)):
                found += _texts_in(_returned(name, tree))
            case ast.IfExp(_, body, otherwise):
                found += _texts_in(iter([body, otherwise]))
    return tuple(dict.fromkeys(found))


def messages_of(file: str) -> list[Message]:
    """The error texts of a file, in the order of its lines."""
    tree, found = trees()[file], list[Message]()

    def visit(node: ast.AST, function: ast.FunctionDef | None) -> None:
        argument, raised = None, False
        match node:
            case ast.FunctionDef():
                function = node
            case ast.Call(ast.Name(name), [first, *_]) if name in error_classes():
                argument, raised = first, True
            case ast.Call(ast.Name("ValueError"), [first, *_]):
                argument = first
            case ast.Yield(ast.JoinedStr() | ast.Constant(str()) as value) if file.startswith(YIELDED):
                argument = value
        if argument is not None:
            text, parts = text_of(argument), parts_of(argument, function, tree)
            found.append(Message(text, parts, file, argument.lineno, raised))
        for child in ast.iter_child_nodes(node):
            visit(child, function)

    visit(tree, None)
    return sorted(found, key=lambda message: message.line)


def messages_of_rules() -> Iterator[Message]:
    """The error texts of the workflow's rules."""
    for path in sorted((ROOT / "workflow" / "rules").glob("*.smk")):
        text, file = path.read_text(), path.relative_to(ROOT).as_posix()
        for start in (match.start() for match in re.finditer(r"\bError\((?=\s*f?[\"'])", text)):
            call = _expression(text[start:])
            assert isinstance(call, ast.Call)
            yield Message(text_of(call.args[0]), (), file, text.count("\n", 0, start) + 1, raised=True)


def _expression(text: str) -> ast.expr:
    """The call that a text begins with: up to the first bracket that closes it."""
    for end in (match.end() for match in re.finditer(r"\)", text)):
        with suppress(SyntaxError):
            return ast.parse(text[:end], mode="eval").body
    raise ValueError(f"no call: {text[:LONGEST]}")


def messages() -> list[Message]:
    """Every error text of the program."""
    return [*(message for file in trees() for message in messages_of(file)), *messages_of_rules()]


def page() -> str:
    """The page, with a section for each package."""
    lines, package, file = [INTRODUCTION.rstrip()], "", ""
    for message in messages():
        own = ".".join(message.file.removesuffix(".py").split("/")[:2])
        if own != package:
            package = own
            lines += ["", f"## `{package}`"]
        if message.file != file:
            file = message.file
            lines += ["", f"`{file}`", ""]
        entry = [f"- {_inline(message.text)}", *(f"    - {_inline(part)}" for part in message.parts)]
        lines += [line for line in entry if line not in lines or line.startswith(" ")]
    return "\n".join(lines) + "\n"


def _inline(text: str) -> str:
    """A text as inline code on one line, whatever back quotes it has."""
    line = " ".join(text.split())
    return f"`` {line} ``" if "`" in line else f"`{line}`"
