"""The base of every typed option class: immutable, and an unknown key is an error."""

import ast
import inspect
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from itertools import pairwise
from textwrap import dedent
from typing import Annotated, Any, TypeVar, Union

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import CoreSchema

CollectionT = TypeVar("CollectionT", bound=Collection[Any])


def each_once(values: CollectionT) -> CollectionT:
    """Validate that nothing stands twice."""
    if len(set(values)) < len(values):
        raise ValueError("each may stand once")
    return values


def expected(what: str) -> WrapValidator:
    """For a field of several forms: one error that says what is expected, in place of one for each form."""

    def validate(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError:
            raise ValueError(f"expected {what}") from None

    return WrapValidator(validate)


class OneOf:
    """For a field that is a mapping: its JSON schema is that of one of several classes, so that editors complete it.

    `tag` is the key that tells them apart, and `classes` gives them.
    """

    def __init__(self, tag: str, classes: Callable[[], Sequence[type[BaseModel]]]) -> None:
        self.tag, self.classes = tag, classes

    def __get_pydantic_json_schema__(self, _schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The schema of a discriminated union, or of a module of somebody else's, known only by the dot in its name."""
        union: Any = Union[tuple(self.classes())]  # noqa: UP007
        ours = handler(TypeAdapter(Annotated[union, Field(discriminator=self.tag)]).core_schema)
        theirs = {
            "type": "object",
            "properties": {self.tag: {"type": "string", "pattern": r"\."}},
            "required": [self.tag],
        }
        return {"anyOf": [ours, theirs]}


class BaseOptions(BaseModel):
    """Options of one section of the config or of one part of a spec."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The docstrings of fields are their descriptions.

        pydantic's `use_attribute_docstrings` does the same when a class is made, and that takes a job longer than
        all else that it imports of kd.
        """
        schema = handler(core_schema)
        properties = handler.resolve_ref_schema(schema).get("properties", {})
        for name, text in _docstrings(cls).items():
            if name in properties:
                properties[name]["description"] = text
        return schema


def _docstrings(cls: type) -> dict[str, str]:
    """Attributes of a class and of those that it inherits from, and the docstring below each."""
    found: dict[str, str] = {}
    for each in reversed(cls.__mro__[: cls.__mro__.index(BaseOptions)]):
        with suppress(OSError):  # made by a function: it has no source of its own
            found |= attribute_docstrings(each)
    return found


def attribute_docstrings(cls: type) -> dict[str, str]:
    """Attributes that a class itself defines, in their order, and the docstring below each.

    Raises:
        OSError: it has no source of its own.
    """
    (body,) = ast.parse(dedent(inspect.getsource(cls))).body
    assert isinstance(body, ast.ClassDef)
    found = {}
    for above, below in pairwise(body.body):
        match above, below:
            case ast.AnnAssign(ast.Name(name)), ast.Expr(ast.Constant(str(text))):
                found[name] = inspect.cleandoc(text)
    return found
