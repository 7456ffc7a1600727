"""The one exception for mistakes that the user can mend."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError

SHOWN = 300  # characters of a text that somebody else wrote


class UserError(Exception):
    """A mistake in the config, the data or the environment.

    Its text names the config key or the file, what was found and what was expected. Command-line entry
    points print it as one line without a stack of frames and exit with status 1.

    Examples:
        >>> import kd
        >>> try:
        ...     kd.create_method("dkd", beta=-1)
        ... except kd.UserError as error:
        ...     print(error)
        method dkd: beta: Input should be greater than or equal to 0
    """


def shown(text: object, limit: int = SHOWN) -> str:
    """A text that somebody else wrote, for a message: on one line, without control characters, and not too long."""
    whole = str(text)
    line = " ".join(whole[: 4 * limit].split())
    safe = "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in line)
    return safe if len(safe) <= limit and len(whole) <= 4 * limit else f"{safe[:limit]}... ({len(whole)} characters)"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`did you mean NAME? ` with the known name that is most like another one; empty where none is."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]}? " if close else ""


def first_mistake(error: ValidationError) -> tuple[str, str]:
    """The dotted path of the first mistake that pydantic found, and what is wrong there."""
    first = error.errors()[0]
    return shown(".".join(map(str, first["loc"]))), shown(first["msg"].removeprefix("Value error, "))
