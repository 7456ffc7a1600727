"""Whose tables and figures lie in the folder of an experiment: its name alone does not tell two people apart."""

from __future__ import annotations

import json
import os
import pwd
import socket
import time
from contextlib import suppress
from pathlib import Path

from kd.artefacts.files import write_text
from kd.artefacts.manifest import git_commit
from kd.artefacts.reading import read_json
from kd.common.errors import UserError, shown

SIGNATURE = "run.json"


def user_name() -> str:
    """The user's name, or number where the system does not know the user, as in a container."""
    with suppress(KeyError):
        return pwd.getpwuid(os.getuid()).pw_name
    return str(os.getuid())


def sign(folder: Path, experiment: str, configfile: str) -> None:
    """Write `run.json`: the experiment, and who has written its tables, when, where, from which config file."""
    signature = {
        "experiment": experiment,
        "user": user_name(),
        "host": socket.gethostname(),
        "written": time.strftime("%Y-%m-%d %H:%M:%S"),
        "configfile": configfile,
        "git_commit": git_commit(),
    }
    write_text(folder / SIGNATURE, json.dumps(signature, indent=1) + "\n")


def other_owner(folder: Path, configfile: str) -> str | None:
    """Whose tables lie there, in words, if they are of another user or config file than this run's; else None."""
    try:
        signed = read_json(folder / SIGNATURE)
        user, file, written = (str(signed[field]) for field in ("user", "configfile", "written"))
    except (OSError, UserError, KeyError, TypeError):  # none yet, or nothing that tells
        return None
    if (user, file) == (user_name(), configfile):
        return None
    return shown(f"{user}, {written}, from {file}")
