"""What one workflow job is told: which artefact to build, from what, and where."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints, ValidationError

from kd.artefacts.reading import is_plain_file, read_json
from kd.common.errors import UserError, first_mistake

MANIFEST = "manifest.json"
# What a directory is being made into: there from the start of a job, so that an unfinished one can be explained.
JOB = ".job.json"
NAME_LENGTH = 200


def _finite(value: dict[str, Any]) -> dict[str, Any]:
    canonical_json(value)  # else it has no key
    return value


# What becomes a part of a path or of a key. Records of a shared folder are read with these, so none leads out of it.
PathName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+$", max_length=NAME_LENGTH)]
Key = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
ModuleName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.]+$", max_length=NAME_LENGTH)]
SpecFields = Annotated[dict[str, Any], AfterValidator(_finite)]


class Upstream(BaseModel):
    """A finished artefact that a job reads."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    stage: PathName
    name: PathName
    key: Key
    directory: Path
    identity: Key
    """What of it counts in the key of its reader: its key, or that of the part that is read."""
    config_identity: Key
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

    stage: PathName
    name: PathName
    key: Key
    config_key: Key
    directory: Path
    code: dict[ModuleName, str]
    spec: SpecFields
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
        if not is_plain_file(self.manifest):
            return self
        told = told_job(self.directory)
        if told is None or told.key != self.key:
            return self
        results = self.directory.parents[2]
        upstream = {
            role: up.model_copy(update={"directory": results / up.stage / up.name / up.key})
            for role, up in told.upstream.items()
        }
        there = all(is_plain_file(up.directory / MANIFEST) for up in upstream.values())
        return told.model_copy(update={"directory": self.directory, "upstream": upstream}) if there else self

    def kin(self, unread: Collection[str]) -> tuple[Path, ...]:
        """Directories of finished artefacts of this name that differ only in some fields of their specs."""
        if not unread:
            return ()
        wanted = self.as_upstream(unread).identity
        found = []
        for directory in sorted(path.parent for path in self.directory.parent.glob(f"*/{JOB}")):
            told = None if directory == self.directory else told_job(directory)
            if told is not None and told.as_upstream(unread).identity == wanted and is_plain_file(directory / MANIFEST):
                found.append(directory)
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


def read_job(directory: Path) -> Job | None:
    """The job that a directory says it is built by; None: it does not say.

    Raises:
        UserError: what it says is no description of a job.
    """
    path = directory / JOB
    try:
        return Job.model_validate(read_json(path))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise UserError(f"{path}: {': '.join(first_mistake(error))}; delete {directory} and run again") from error


def told_job(directory: Path) -> Job | None:
    """As `read_job`, but None for a file that is not a description."""
    with suppress(UserError):
        return read_job(directory)
    return None


def canonical_json(value: Any) -> str:
    """JSON text that is equal for equal values: sorted keys, no white space."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def artefact_key(stage: str, spec: Any, upstream: Mapping[str, str], code: Mapping[str, str]) -> str:
    """16 hex digits that identify an artefact by what makes it: spec, identities of upstreams, code by module."""
    content = {"stage": stage, "spec": spec, "upstream": dict(upstream), "code": dict(code)}
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()[:16]
