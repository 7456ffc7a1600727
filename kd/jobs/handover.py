"""What a run tells its jobs, in files: Linux limits an argument to 128 KiB, and hundreds of upstreams take more.

The run writes them into its results folder before it starts the first job; on a cluster, jobs read them there. Each is
named by a digest of its content. So runs that share a folder never disagree about one, and a job that is given the
name by its run notices when somebody changed the content.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from kd.artefacts.disk import disk_errors
from kd.artefacts.files import write_text
from kd.artefacts.job import Job
from kd.artefacts.reading import LINKED, is_plain_file, open_plain
from kd.common.errors import UserError

FOLDER = ".jobs"
STALE_AFTER_SECONDS = 90 * 24 * 3600.0  # longer than any run


def job_file(job: Job) -> Path:
    """The file that tells a job what to build."""
    return told_file(job.directory.parents[2], f"{job.stage}-{job.name}", job.model_dump_json())


def told_file(results: Path, name: str, text: str) -> Path:
    """The file in which a text is handed over, such as the config, as JSON, to publishing and the report."""
    return results / FOLDER / f"{name}-{_digest(text)}.json"


def hand_over(path: Path, text: str) -> None:
    """Write such a file, or if it is there, note that it is in use.

    Raises:
        UserError: the disk cannot be written, or the folder is a link.
    """
    if path.parent.is_symlink():
        raise UserError(f"{path.parent}: is a link; {LINKED}")
    with disk_errors(path.parent):
        if is_plain_file(path) and path.read_bytes() == text.encode():
            with suppress(PermissionError):  # another user's
                path.touch()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, text)


def handed_over(option: str, path: Path) -> str:
    """The text of such a file, which an option of the command line names.

    Raises:
        UserError: it is not there, cannot be read, or is not what the run wrote.
    """
    again = "it is written when a run starts, so run snakemake"
    try:
        with os.fdopen(open_plain(path), "rb") as stream:
            text = stream.read().decode()
    except FileNotFoundError as error:
        raise UserError(f"{option}: {path}: no such file; {again}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{option}: {path}: cannot be read: {error}; {again}") from error
    if not path.stem.endswith(f"-{_digest(text)}"):
        raise UserError(f"{option}: {path}: was changed since a run wrote it; {again}")
    return text


def stale(results: Path) -> Iterator[Path]:
    """Files handed over so long ago that no run can still need them."""
    for path in sorted((results / FOLDER).glob("[!.]*.json")):
        if time.time() - path.lstat().st_mtime > STALE_AFTER_SECONDS:
            yield path


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
