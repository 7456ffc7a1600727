"""Whose tables and figures lie in the folder of an experiment: its name alone does not tell two people apart."""

from __future__ import annotations

import getpass
import json
import os
import socket
import time
from pathlib import Path

from kd.jobs.files import write_text
from kd.jobs.manifest import git_commit

SIGNATURE = "run.json"


def user_name() -> str:
    """The user of this process; a number where the system has no name for it, as in some containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
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
        signed = json.loads((folder / SIGNATURE).read_text())
        user, file, written = (str(signed[field]) for field in ("user", "configfile", "written"))
    except (OSError, ValueError, KeyError, TypeError):  # none yet, or nothing that tells
        return None
    if (user, file) == (user_name(), configfile):
        return None
    return f"{user}, {written}, from {file}"
