"""The base of every typed option class: immutable, and an unknown key is an error."""

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, ValidatorFunctionWrapHandler, WrapValidator


def expected(what: str) -> WrapValidator:
    """For a field of several forms: one error that says what is expected, in place of one for each form."""

    def validate(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError:
            raise ValueError(f"expected {what}") from None

    return WrapValidator(validate)


class BaseOptions(BaseModel):
    """Options of one section of the config or of one part of a spec."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True, allow_inf_nan=False
    )
