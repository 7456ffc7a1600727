"""A results folder of the tiny config whose artefacts hold a line of text each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import kd.planning.plan
from kd.artefacts.code import code_digests
from kd.artefacts.job import Job
from kd.config.load import load_config
from kd.jobs.run import Context, Outcome, run_job
from kd.planning.plan import Plan
from tests.artefacts.building import Spec

Tiny = dict[str, Any]
Edit = Callable[..., None]


@pytest.fixture
def config(tiny: Tiny, tmp_path: Path) -> Tiny:
    """The tiny config with its results in a scratch folder."""
    return tiny | {"results": str(tmp_path / "results")}


@pytest.fixture
def edit(monkeypatch: pytest.MonkeyPatch) -> Edit:
    """Pretend that modules were edited, with a version: other edits, other digests."""

    def edited(*changed: str, version: int = 1) -> None:
        def digests(*modules: str) -> dict[str, str]:
            return {
                name: f"{value}-{version}" if name in changed else value
                for name, value in code_digests(*modules).items()
            }

        monkeypatch.setattr(kd.planning.plan, "code_digests", digests)

    return edited


def planned(config: Tiny) -> Plan:
    return Plan(load_config(config))


def build(*jobs: Job) -> None:
    """Make artefacts, unless they are there."""

    def write(context: Context[Spec]) -> Outcome:
        (context.directory / "content.txt").write_text("made\n")
        (context.directory / "folder").mkdir(exist_ok=True)
        (context.directory / "folder" / "more.txt").write_text("made\n")
        return Outcome({})

    for job in jobs:
        run_job(job, Spec(text=""), write)


def built(config: Tiny) -> Plan:
    """The plan of a config, with all of it made."""
    plan = planned(config)
    build(*plan.jobs.values())
    return plan


def configfile(config: Tiny) -> Path:
    path = Path(config["results"]).with_suffix(".yaml")
    path.write_text(yaml.safe_dump(config))
    return path
