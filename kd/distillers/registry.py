"""Distillation methods by name. A new method is one new file in this folder, or a module of your own."""

from __future__ import annotations

from typing import Any, cast

from pydantic import ValidationError

from kd.common.errors import UserError, first_mistake
from kd.common.registry import Registry
from kd.distillers.base import Distiller

METHODS = Registry("kd.distillers", others=("base", "criterion", "losses", "registry"))


def load_distiller(name: str) -> type[Distiller]:
    """The method of that name."""
    return cast("type[Distiller]", METHODS.load(name).Method)


def create_method(name: str, **options: Any) -> Distiller:
    """A distillation method.

    Args:
        name: as `methods` lists them, or the full name of a module of yours, such as `my_project.soft`.
        options: of the method; those that are left out have the defaults of its documentation.

    Raises:
        UserError: there is no such method or option, or a value is wrong.

    Example:
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
    """Names of all distillation methods.

    Example:
        >>> import kd
        >>> "mlfd" in kd.methods()
        True
    """
    return METHODS.names()


def parse_distiller(section: dict[str, Any]) -> Distiller:
    """A `distiller` section, `name` and options, as a method."""
    return load_distiller(section["name"]).model_validate(section)
