"""What stages left out or changed of what they were given, for people to see."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kd.artefacts.job import Job
from kd.artefacts.manifest import load_manifest
from kd.common.errors import UserError, shown


def notes_of(jobs: Iterable[Job]) -> Iterator[tuple[str, str, int]]:
    """Each note of each finished artefact: the artefact's name in the config or index, the note, and how often."""
    for job in jobs:
        try:
            manifest = load_manifest(job.directory) or {}
        except UserError:  # it is told by whoever reads the artefact
            continue
        name = f"datasets.{job.name}" if job.stage == "prepare_dataset" else f"{job.stage}/{job.name}"
        for what, count in manifest.get("result", {}).get("notes", {}).items():
            yield name, shown(what), count
