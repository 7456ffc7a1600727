"""What one workflow job is told: which artefact to build, from what, and where."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

MANIFEST = "manifest.json"
# What a directory is being made into: there from the start of a job, so that an unfinished one can be explained.
JOB = ".job.json"


class Upstream(BaseModel):
    """A finished artefact that a job reads."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    stage: str
    name: str
    key: str
    directory: Path
    identity: str
    """What of it counts in the key of its reader: its key, or that of the part that is read."""
    config_identity: str
    """The identity if code did not count."""
    unread: tuple[str, ...] = ()
    """Fields of its spec that its reader does not depend on."""


class Job(BaseModel):
    """One artefact to build. Serialised to JSON it is all that a stage is told.

    `spec` is everything its content depends on, `upstream` the artefacts it reads (by role), `code` the
    digest of each module of the code that makes it. `key` is derived from these three and nothing else, and
    `config_key` from the first two, with all code left out, also that of whatever lies upstream.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: str
    name: str
    key: str
    config_key: str
    directory: Path
    code: dict[str, str]
    spec: dict[str, Any]
    upstream: dict[str, Upstream] = {}

    @classmethod
    def make(
        cls,
        results: Path,
        stage: str,
        name: str,
        *,
        spec: dict[str, Any],
        code: dict[str, str],
        upstream: dict[str, Upstream],
    ) -> Job:
        """A job with its keys, and with its directory below `results`."""
        key = artefact_key(stage, spec, {role: up.identity for role, up in upstream.items()}, code)
        return cls(
            stage=stage,
            name=name,
            key=key,
            config_key=artefact_key(stage, spec, {role: up.config_identity for role, up in upstream.items()}, {}),
            directory=results / stage / name / key,
            code=code,
            spec=spec,
            upstream=upstream,
        )

    @property
    def manifest(self) -> Path:
        """The one declared output; its presence means that the artefact is complete."""
        return self.directory / MANIFEST

    def as_made(self) -> Job:
        """This job as it was when its artefact was made; itself, if that is not there.

        A reader may have been made from a smaller store than is wanted by now. For its key that is the same,
        but to Snakemake another input, and so a reason to start it again.
        """
        if not self.manifest.is_file():
            return self
        try:
            told = Job.model_validate_json((self.directory / JOB).read_text())
        except (FileNotFoundError, ValueError):
            return self
        results = self.directory.parents[2]
        upstream = {
            role: up.model_copy(update={"directory": results / up.stage / up.name / up.key})
            for role, up in told.upstream.items()
        }
        there = all((up.directory / MANIFEST).is_file() for up in upstream.values())
        return told.model_copy(update={"directory": self.directory, "upstream": upstream}) if there else self

    def kin(self, unread: Collection[str]) -> tuple[Path, ...]:
        """Directories of finished artefacts of this name that differ only in some fields of their specs."""
        if not unread:
            return ()
        found = []
        for path in sorted(self.directory.parent.glob(f"*/{JOB}")):
            with suppress(ValueError):
                told = Job.model_validate_json(path.read_text())
                same = told.as_upstream(unread).identity == self.as_upstream(unread).identity
                if same and path.parent != self.directory and (path.parent / MANIFEST).is_file():
                    found.append(path.parent)
        return tuple(found)

    def as_upstream(self, unread: Collection[str] = ()) -> Upstream:
        """This artefact for a reader that does not depend on some fields of its spec."""
        identity, config_identity = self.key, self.config_key
        if unread:
            read = {field: value for field, value in self.spec.items() if field not in unread}
            identities = {role: up.identity for role, up in self.upstream.items()}
            config_identities = {role: up.config_identity for role, up in self.upstream.items()}
            identity = artefact_key(self.stage, read, identities, self.code)
            config_identity = artefact_key(self.stage, read, config_identities, {})
        return Upstream(
            stage=self.stage,
            name=self.name,
            key=self.key,
            directory=self.directory,
            identity=identity,
            config_identity=config_identity,
            unread=tuple(unread),
        )


def canonical_json(value: Any) -> str:
    """JSON text that is equal for equal values: sorted keys, no white space."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def artefact_key(stage: str, spec: Any, upstream: Mapping[str, str], code: Mapping[str, str]) -> str:
    """16 hex digits that identify an artefact by what makes it: spec, identities of upstreams, code by module."""
    content = {"stage": stage, "spec": spec, "upstream": dict(upstream), "code": dict(code)}
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()[:16]
