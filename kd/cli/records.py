"""What runs of the workflow say of themselves in the folder of their experiment, whose name alone tells no two apart.

RESULTS/experiments/EXPERIMENT/runs/USER.json: of each user the last run, as it noted when it started, with the
artefacts that it wants, which `gc` must keep. RESULTS/experiments/EXPERIMENT/run.json: whose tables lie there.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from kd.artefacts.disk import disk_errors, share
from kd.artefacts.files import write_text
from kd.artefacts.job import PathName
from kd.artefacts.manifest import git_commit
from kd.artefacts.reading import check_place, is_plain_folder, read_json
from kd.common.errors import UserError, first_mistake, shown
from kd.planning.plan import Plan

SIGNATURE = "run.json"
Text = Annotated[str, StringConstraints(max_length=4000)]
Title = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+/[A-Za-z0-9_-]+/[0-9a-f]{16}$")]


class Run(BaseModel):
    """A run of the workflow."""

    model_config = ConfigDict(strict=True, frozen=True, extra="allow")

    experiment: PathName
    user: Text
    host: Text
    when: Text
    configfile: Text
    artefacts: list[Title]
    """STAGE/NAME/KEY of everything that its config wants."""

    def __str__(self) -> str:
        return shown(f"{self.experiment} of {self.user} ({self.configfile}, on {self.host}, {self.when})")


def user_name() -> str:
    """The user's name, or number where the system does not know the user, as in a container."""
    with suppress(KeyError):
        return pwd.getpwuid(os.getuid()).pw_name
    return str(os.getuid())


def planned_run(plan: Plan, configfile: str | Path) -> Run:
    """A run of a plan by this user, now; `configfile` says where the config is, for people."""
    return Run(
        experiment=plan.config.experiment,
        user=user_name(),
        host=socket.gethostname(),
        when=time.strftime("%Y-%m-%d %H:%M:%S"),
        configfile=str(configfile),
        artefacts=[f"{job.stage}/{job.name}/{job.key}" for job in plan.jobs.values()],
    )


def record_run(plan: Plan, configfile: str | Path) -> None:
    """Note what a config wants; in the place of what the same user's last run of the same experiment wanted.

    Raises:
        UserError: the results folder cannot be written.
    """
    results, run = plan.config.results, planned_run(plan, configfile)
    user = re.sub(r"[^A-Za-z0-9_-]", "_", run.user)[:100]
    path = results / "experiments" / run.experiment / "runs" / f"{user}.json"
    share(results)
    check_place(path.parent)
    with disk_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(run.model_dump(mode="json"), indent=1))


def recorded_runs(results: Path) -> Iterator[tuple[Path, Run]]:
    """All runs that are noted in a results folder, each with its file.

    Raises:
        UserError: a note cannot be read, so that nobody knows what it wants.
    """
    for folder in sorted((results / "experiments").glob("*/runs")):
        if not is_plain_folder(folder):
            raise UserError(f"{folder}: is a link or no folder, so that what its runs need is unknown; remove it")
        check_place(folder)
        for path in sorted(folder.glob("[!.]*.json")):
            try:
                run = Run.model_validate(read_json(path))
                if run.experiment != folder.parent.name:
                    raise UserError(f"{path}: experiment: found {run.experiment}, expected {folder.parent.name}")
                yield path, run
            except ValidationError as error:
                raise UserError(
                    f"{path}: {': '.join(first_mistake(error))}; what this run needs is unknown: start it again, or"
                    " delete this file if it needs nothing"
                ) from error


def affected(results: Path, titles: set[str]) -> Iterator[str]:
    """A line for each noted run that wants some of these artefacts."""
    for _, run in recorded_runs(results):
        count = len(titles.intersection(run.artefacts))
        if count:
            yield f"{run}: {count} of its artefacts"


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
