"""What one workflow job is told: which artefact to build, from what, and where; and in what two of them differ."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints, ValidationError

from kd.artefacts.reading import is_plain_file, read_json
from kd.common.errors import UserError, first_mistake, shown

MANIFEST = "manifest.json"
# What a directory is being made into: there from the start of a job, so that an unfinished one can be explained.
JOB = ".job.json"
NAME_LENGTH = 200
ROOT = Path(__file__).parents[2]
_ABSENT = object()


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
        key, config_key = _keys(stage, spec, upstream, code)
        return cls(
            stage=stage,
            name=name,
            key=key,
            config_key=config_key,
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
        others = sorted({path.parent for path in self.directory.parent.glob(f"*/{JOB}")} - {self.directory})
        told = {each: told_job(each) for each in others if is_plain_file(each / MANIFEST)}
        return tuple(each for each, job in told.items() if job and job.as_upstream(unread).identity == wanted)

    def as_upstream(self, unread: Collection[str] = ()) -> Upstream:
        """This artefact for a reader that does not depend on some fields of its spec."""
        identity, config_identity = self.key, self.config_key
        if unread:
            read = {field: value for field, value in self.spec.items() if field not in unread}
            identity, config_identity = _keys(self.stage, read, self.upstream, self.code)
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
    return digest(content)


def digest(value: Any) -> str:
    """16 hex digits of a JSON value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]


def _keys(stage: str, spec: Any, upstream: Mapping[str, Upstream], code: Mapping[str, str]) -> tuple[str, str]:
    """Key and config key of an artefact."""
    identities = {role: up.identity for role, up in upstream.items()}
    config_identities = {role: up.config_identity for role, up in upstream.items()}
    return artefact_key(stage, spec, identities, code), artefact_key(stage, spec, config_identities, {})


def spec_differences(found: Any, wanted: Any, path: str = "") -> Iterator[str]:
    """Each differing field as a dotted path: `recipe.lr: 0.003 -> 0.01`."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for name in dict.fromkeys([*found, *wanted]):
            inner = f"{path}.{name}" if path else str(name)
            yield from spec_differences(found.get(name, _ABSENT), wanted.get(name, _ABSENT), inner)
    elif found != wanted:
        yield f"{shown(path)}: {_value(found)} -> {_value(wanted)}"


def _value(value: Any) -> str:
    return "absent" if value is _ABSENT else shown(json.dumps(value))


def code_differences(found: Mapping[str, str], wanted: Mapping[str, str]) -> Iterator[str]:
    """Each source file that differs."""
    for module in sorted({*found, *wanted}):
        path = module.replace(".", "/")  # within the checkout, or as somebody else's module is named
        file = shown(f"{path}/__init__.py" if (ROOT / path).is_dir() else f"{path}.py")
        if module not in found:
            yield f"{file}: newly used"
        elif module not in wanted:
            yield f"{file}: no longer used"
        elif found[module] != wanted[module]:
            yield f"{file}: changed"


def upstream_differences(found: Mapping[str, Mapping[str, Any]], wanted: Job) -> dict[str, str]:
    """A line for each role whose upstream differs."""
    told: dict[str, str] = {}
    for role in dict.fromkeys([*found, *wanted.upstream]):
        if role not in wanted.upstream:
            told[role] = f"{shown(role)}: no longer read"
        elif role not in found:
            told[role] = f"{role}: newly read"
        elif found[role]["identity"] != wanted.upstream[role].identity:
            told[role] = f"{role}: {found[role]['identity']} -> {wanted.upstream[role].identity}"
    return told


def job_differences(found: Mapping[str, Any], wanted: Job) -> list[str]:
    """Differences between a manifest and a job: of spec, upstreams and code."""
    return [
        *(f"spec {text}" for text in spec_differences(found["spec"], wanted.spec)),
        *(f"upstream {text}" for text in upstream_differences(found["upstream"], wanted).values()),
        *(f"code {text}" for text in code_differences(found["code"], wanted.code)),
    ]
