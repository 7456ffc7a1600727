"""Results that people share: what one writes, the others of the group may read, replace and remove."""

from __future__ import annotations

import os
import stat
from pathlib import Path

GROUP = stat.S_IRWXG


def share(results: Path) -> None:
    """Let this process write for its group, whatever its umask, if a results folder says that it is shared.

    It says so with `chmod g+ws`: its group may write, and what is made in it belongs to that group. Elsewhere, the
    umask stays as the user has it.
    """
    folder = results.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    mode = folder.stat().st_mode
    if mode & stat.S_ISGID and mode & stat.S_IWGRP:
        before = os.umask(0o077)
        os.umask(before & ~GROUP)
