"""What a config wants, and which of it a name means."""

from __future__ import annotations

import difflib
from pathlib import Path

from kd.artefacts.job import Job
from kd.common.errors import UserError
from kd.config.load import load_config, read_config
from kd.planning.plan import Plan


def plan_of(configfile: Path) -> Plan:
    """The plan of a config file, of the results folder as seen from the working directory.

    Raises:
        UserError: the file cannot be read, or the config is wrong.
    """
    return Plan(load_config(read_config(configfile)))


def find_job(plan: Plan, name: str) -> Job:
    """The job of that name, as in its index.csv: NAME, STAGE/NAME or STAGE/NAME/KEY.

    Raises:
        UserError: the config has none, or several, such as stores of one teacher in two precisions.
    """
    full = {f"{job.stage}/{job.name}/{job.key}": job for job in plan.jobs.values()}
    found = {title: job for title, job in full.items() if name in (title, f"{job.stage}/{job.name}", job.name)}
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        raise UserError(f"{name}: is the name of several, say which: {', '.join(found)}")
    names = [each for job in full.values() for each in (f"{job.stage}/{job.name}", job.name)]
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise UserError(f"{name}: the config has no artefact of this name{hint} ({plan.folder}/index.csv lists all)")
