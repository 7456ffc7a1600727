"""The base of every typed option class: immutable, and an unknown key is an error."""

from pydantic import BaseModel, ConfigDict


class BaseOptions(BaseModel):
    """Options of one section of the config or of one part of a spec."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True, allow_inf_nan=False
    )
