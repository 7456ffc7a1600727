"""The base of every typed option class: immutable, and an unknown key is an error."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Union

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

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True, allow_inf_nan=False
    )
