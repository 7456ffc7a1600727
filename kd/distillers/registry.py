"""Distillation methods by name: files of this folder, entry points of installed packages, modules of your own."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, cast

from pydantic import ValidationError

from kd.common.errors import UserError, first_mistake
from kd.common.registry import Registry
from kd.distillers.base import Distiller

METHODS = Registry(
    "kd.distillers", "kd.methods", {"Method": Distiller}, others=("base", "criterion", "losses", "registry")
)


def load_distiller(name: str) -> type[Distiller]:
    """The method of that name.

    Raises:
        UserError: it is that of another package, and cannot be used; or its option `name` is another.
    """
    method = cast("type[Distiller]", METHODS.load(name).Method)
    called = method.model_fields["name"].default
    if called != name:
        raise UserError(f"{METHODS.whose(name)}: Method has name {called!r}, expected {name!r}, as the config calls it")
    return method


def usable_methods() -> dict[str, type[Distiller]]:
    """All methods by name, without those of packages that are broken; `kd methods` shows these, too."""
    found = {}
    for name in METHODS.usable():
        with suppress(UserError):  # its option `name` may still be another
            found[name] = load_distiller(name)
    return found


def create_method(name: str, **options: Any) -> Distiller:
    """A distillation method.

    Args:
        name: as `methods` lists them, or the full name of a module of yours, such as `my_project.soft`.
        options: of the method; those that are left out have the defaults of its documentation.

    Raises:
        UserError: there is no such method or option, or a value is wrong.

    Examples:
        >>> import kd
        >>> kd.create_method("dkd", beta=2).required().names()
        ('logits',)
    """
    if not METHODS.knows(name):
        raise UserError(f"method: {name!r}, expected one of {', '.join(METHODS.names())}")
    try:
        return parse_distiller({"name": name} | options)
    except ValidationError as error:
        raise UserError(f"method {name}: {': '.join(first_mistake(error))}") from error


def methods() -> list[str]:
    """Names of all distillation methods: ours, and those of installed packages that can be used.

    Examples:
        >>> import kd
        >>> "mlfd" in kd.methods()
        True
    """
    return sorted(usable_methods())


def parse_distiller(section: dict[str, Any]) -> Distiller:
    """A `distiller` section, `name` and options, as a method."""
    return load_distiller(section["name"]).model_validate(section)
