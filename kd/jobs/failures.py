"""What a job that failed said last, in one line."""

from __future__ import annotations

from pathlib import Path

from kd.common.errors import shown

LINE = 1000  # characters of an error
ERROR = "error: "  # begins the last line of a job that met a mistake of the user's
TRACEBACK = "Traceback (most recent call last)"


def last_error(log: Path) -> str:
    """The error that a job ended with, by its log.

    Of several processes, any may have had the last word: what begins with `error: ` counts most, then what follows
    a traceback. A job that was killed ends without either.
    """
    try:
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    except OSError:
        lines = []
    lines = [line for line in lines if line]
    errors = [line.removeprefix(ERROR) for line in lines if line.startswith(ERROR)]
    if errors:
        return shown(errors[-1], LINE)
    if any(TRACEBACK in line for line in lines):
        return shown(lines[-1], LINE)
    said = f"its last line is: {shown(lines[-1])}" if lines else "its log is empty"
    return f"ended without an error message, as when it is killed for its memory; {said}"
