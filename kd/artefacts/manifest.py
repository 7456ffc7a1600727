"""manifest.json: the record that makes a directory a complete, checkable artefact.

It says what made the artefact, and has a checksum of every file. It is written last and by rename, so that where it is,
all else is there. A program refuses formats that it does not know. `.job.log` beside it has what was said while the
artefact was made, by every attempt.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import platform
import socket
import subprocess
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, NotRequired

from annotated_types import Ge, Le
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)
from typing_extensions import TypedDict  # pydantic takes no other before Python 3.12

from kd.artefacts.files import damage, file_records, remove, write_text
from kd.artefacts.job import MANIFEST, Job, Key, ModuleName, PathName, SpecFields, Upstream, digest, job_differences
from kd.artefacts.reading import check_place, check_plain, is_plain_file, read_json
from kd.common.errors import UserError, first_mistake, shown
from kd.common.registry import versions_of

FORMAT = 2
MADE_FROM = "made_from"
"""Field of the result of what follows its upstreams: see `made_from_now`."""
# Snakemake deletes the declared output of a job that failed or was stopped, even one that another controller
# has finished meanwhile. This undeclared copy survives, and counts where the declared one is missing.
KEPT = ".manifest.json"
LIBRARIES = ("torch", "torchvision", "timm", "zarr", "numcodecs", "numpy", "pandas", "lightning-fabric")
MANIFEST_BYTES = 1 << 30  # of a manifest, at most: a record of a file takes about 120
PART_BYTES = 255  # of one part of a path, as file systems have it

log = logging.getLogger("kd")


def _below(path: str) -> str:
    """Check that a path, as `file_records` gives it, leads to a file of the artefact itself."""
    parts = path.split("/")
    hidden = any(not part or part.startswith(".") or len(part.encode(errors="replace")) > PART_BYTES for part in parts)
    if hidden or path == MANIFEST or not path.isprintable() or len(path) > 4 * PART_BYTES:
        raise ValueError(f"expected the path of a file below the artefact, found {shown(repr(path))}")
    return path


def _one_checksum(record: dict[str, Any]) -> dict[str, Any]:
    if ("sha256" in record) == ("crc32c" in record):
        raise ValueError("expected either sha256 or crc32c")
    return record


Size = Annotated[int, Ge(0), Le(1 << 62)]
Text = Annotated[str, StringConstraints(max_length=1000)]
STRICT = ConfigDict(strict=True, extra="allow")


class FileRecord(TypedDict):
    """One file of an artefact: where it is below the artefact, its size, and the checksum it has."""

    __pydantic_config__ = STRICT  # type: ignore[misc]
    path: Annotated[str, AfterValidator(_below)]
    bytes: Size
    sha256: NotRequired[Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]]
    crc32c: NotRequired[Annotated[str, StringConstraints(pattern="^[0-9a-f]{8}$")]]


class UpstreamRecord(TypedDict):
    """An artefact that was read; see `kd.artefacts.job.Upstream`."""

    __pydantic_config__ = STRICT  # type: ignore[misc]
    stage: PathName
    name: PathName
    key: Key
    identity: Key
    config_identity: Key
    unread: list[Text]


class Adoption(BaseModel):
    """What an artefact was adopted from, and what that was adopted from before."""

    model_config = ConfigDict(strict=True, extra="allow")

    before: Adoption | None
    by: Text
    when: Text
    code: list[Text]
    source: Key = Field(alias="from")


def _adoption(record: dict[str, Any]) -> dict[str, Any]:
    Adoption.model_validate(record)
    return record


class Manifest(TypedDict):
    """The fields that a manifest must have, whoever wrote it; `load_manifest` lets others through."""

    __pydantic_config__ = STRICT  # type: ignore[misc]
    stage: PathName
    """Stage that made it: the first folder of its path below the results folder."""
    name: PathName
    """Name of the artefact: the second one."""
    key: Key
    """Key over spec, upstream and code: the third one."""
    config_key: Key
    """Key over the same without the code."""
    spec: SpecFields
    """Options that it depends on."""
    upstream: dict[Text, UpstreamRecord]
    """Artefacts that it was made from, by their role."""
    code: dict[ModuleName, Text]
    """Digests of the code that made it, by module."""
    versions: dict[Text, Text]
    """Versions of Python and of libraries; they are in no key."""
    files: list[Annotated[FileRecord, AfterValidator(_one_checksum)]]
    """Every file: its path, its size, and its sha256 or, of chunks, its CRC32C."""
    git_commit: Text | None
    """Commit of the running code; null outside a git checkout."""
    host: Text
    """Machine that made it."""
    device: Text
    """CPU or GPU that made it."""
    seconds: Annotated[FiniteFloat, Ge(0)]
    """How long it took, in seconds of the attempt that finished it."""
    bytes: Size
    """Bytes of all files."""
    result: dict[str, Any]
    """What the stage found, such as metrics."""
    adopted: Annotated[dict[str, Any], AfterValidator(_adoption)] | None
    """What it was adopted from, by `python -m kd adopt`; null: it was made as it is."""


_MANIFEST = TypeAdapter(Manifest)


class NewerFormatError(UserError):
    """A manifest of a format that only a later version of this program knows."""


def git_commit() -> str | None:
    """The commit of the running code, or None outside a git checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def library_versions(modules: Collection[str] = ()) -> dict[str, str]:
    """Versions of Python, of the libraries that results depend on, and of installed packages that modules are from."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        with suppress(importlib.metadata.PackageNotFoundError):  # pandas comes with kd[report]
            versions[name] = importlib.metadata.version(name)
    theirs = [module for module in modules if not module.startswith("kd.")]
    return versions | (versions_of(theirs) if theirs else {})


def job_record(job: Job) -> dict[str, Any]:
    """The part of a manifest that says what an artefact is made by; each upstream with what counts of it."""
    return job.model_dump(
        mode="json", exclude={"directory": True, "upstream": {role: {"directory"} for role in job.upstream}}
    )


def write_manifest(job: Job, *, result: dict[str, Any], seconds: float, device: str) -> None:
    """Record a finished artefact. Written last and by rename: its presence means that all else is there.

    Raises:
        UserError: a file was damaged while it was written.
    """
    files = file_records(job.directory)
    manifest = job_record(job) | {
        "format": FORMAT,
        "git_commit": git_commit(),
        "versions": library_versions(job.code),
        "host": socket.gethostname(),
        "device": device,
        "seconds": round(seconds, 3),
        "bytes": sum(record["bytes"] for record in files),
        "result": result,
        "adopted": None,
        "files": files,
    }
    publish_manifest(manifest, job.directory)


def publish_manifest(manifest: dict[str, Any], directory: Path) -> None:
    """Declare an artefact complete."""
    text = json.dumps(manifest, indent=1, sort_keys=True)
    for name in (KEPT, MANIFEST):
        write_text(directory / name, text)


def manifest_path(directory: Path) -> Path | None:
    """The manifest in a directory, or its kept copy, or None: the artefact is not finished."""
    return next((path for path in (directory / MANIFEST, directory / KEPT) if is_plain_file(path)), None)


def load_manifest(directory: Path) -> dict[str, Any] | None:
    """The manifest in a directory, or its kept copy, or None; its files are not checked.

    Whatever it says is of the type that `Manifest` tells, and no path in it leads out of the directory.

    Raises:
        UserError: it is not a manifest of this format.
    """
    path = manifest_path(directory)
    if path is None:
        return None
    check_place(directory)
    manifest = read_json(path, MANIFEST_BYTES)
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if not isinstance(found, int):
        raise UserError(f"{path}: format: found {shown(repr(found))}, expected {FORMAT}; delete it and run again")
    if found > FORMAT:
        raise NewerFormatError(
            f"{path}: format: written by a newer version of kd ({shown(found)}, this one knows {FORMAT}); update kd"
        )
    if found < FORMAT:
        raise UserError(
            f"{path}: format: written by an older version of kd ({shown(found)}, this one has {FORMAT});"
            f" delete {directory} and run again"
        )
    try:
        return dict(_MANIFEST.validate_python(manifest))
    except ValidationError as error:
        where, what = first_mistake(error)
        what = "is missing" if what == "Field required" else what
        raise UserError(f"{path}: {where}: {what}; delete {directory} and run again") from error


def finished_manifest(directory: Path) -> dict[str, Any]:
    """The manifest of an artefact.

    Raises:
        UserError: there is none, or none that can be read.
    """
    manifest = load_manifest(directory)
    if manifest is None:
        raise UserError(f"{directory}: not a finished artefact, {MANIFEST} is missing")
    return manifest


def job_of(manifest: dict[str, Any], directory: Path) -> Job:
    """The job of a finished artefact, as its manifest tells it and its place names it.

    Raises:
        UserError: this is no place of an artefact.
    """
    directory = directory.absolute()
    told = {field: manifest[field] for field in ("config_key", "code", "spec")}
    *_, stage, name, key = ("", "", "", *directory.parts)
    upstream = {
        role: up | {"directory": directory.parents[2] / up["stage"] / up["name"] / up["key"]}
        for role, up in manifest["upstream"].items()
    }
    place = {"stage": stage, "name": name, "key": key, "directory": directory}
    try:
        return Job.model_validate(told | place | {"upstream": upstream})
    except ValidationError as error:
        raise UserError(f"{directory}: expected a directory RESULTS/STAGE/NAME/KEY") from error


def read_manifest(artefact: Upstream | Job) -> dict[str, Any]:
    """The manifest of a finished artefact, checked, as are the files that it records.

    Raises:
        UserError: the artefact is missing, is of another key, or its files are not those recorded.
    """
    manifest = finished_manifest(artefact.directory)
    check_plain(artefact.directory)
    check_manifest(manifest, artefact)
    return manifest


def check_manifest(manifest: dict[str, Any], artefact: Upstream | Job, *, chunks: bool = False) -> None:
    """Compare a manifest with the artefact that is wanted and with the files that lie there, `chunks` of Zarr whole.

    Raises:
        UserError: naming the first field, or the first file and what of it, that differs.
    """
    _check_whose(manifest, artefact)
    for record in manifest["files"]:
        wrong = damage(artefact.directory, record, chunks=chunks)
        if wrong:
            raise UserError(f"{wrong}; delete {artefact.directory} and run again")


def _check_whose(manifest: dict[str, Any], artefact: Upstream | Job) -> None:
    directory = artefact.directory
    for field in ("stage", "name", "key"):
        if manifest[field] != getattr(artefact, field):
            why = "; ".join(job_differences(manifest, artefact)) if isinstance(artefact, Job) else ""
            raise UserError(
                f"{directory}: {field}: found {manifest[field]}, expected {getattr(artefact, field)}"
                f"{f' ({why})' if why else ''}; delete {directory} and run again"
            )


def made_from_now(job: Job) -> dict[str, str]:
    """16 hex digits by role that tell a making of each upstream from another one of the same key.

    Raises:
        UserError: an upstream is missing, or of another key.
    """
    found = {}
    for role, up in job.upstream.items():
        manifest = finished_manifest(up.directory)
        _check_whose(manifest, up)
        made = [manifest.get(field) for field in ("seconds", "device", "result", "files")]
        found[role] = digest(made)
    return found


def made_from_then(job: Job) -> dict[str, str] | None:
    """What `made_from_now` was when an artefact was made; None: it was not noted."""
    found: dict[str, str] | None = (load_manifest(job.directory) or {"result": {}})["result"].get(MADE_FROM)
    return found


def whole_manifest(directory: Path) -> dict[str, Any] | None:
    """The manifest of a finished artefact whose files are those recorded; else None."""
    try:
        manifest = load_manifest(directory)
        check_plain(directory)
    except UserError:
        return None
    if manifest is None or any(damage(directory, record) for record in manifest["files"]):
        return None
    return manifest


def restore_manifest(job: Job) -> bool:
    """Declare a whole artefact complete again, every byte of it checked; False when there is work to do.

    Then what is damaged is removed, so that no stage takes it for its own work and goes on from it.

    Raises:
        NewerFormatError: a later version of this program made it.
        UserError: in the directory is a link, or something else that no artefact has.
    """
    check_plain(job.directory)
    try:
        manifest = load_manifest(job.directory)
        if manifest is None:
            return False
        check_manifest(manifest, job, chunks=True)
    except NewerFormatError:
        raise
    except UserError as error:
        log.info("to be rebuilt: %s", error)
        _discard(job.directory)
        return False
    if not (is_plain_file(job.manifest) and is_plain_file(job.directory / KEPT)):
        publish_manifest(manifest, job.directory)
    return True


def _discard(directory: Path) -> None:
    """Declare an artefact incomplete, and remove what does not fit its manifest."""
    with suppress(UserError):
        for record in (load_manifest(directory) or {"files": []})["files"]:
            if damage(directory, record, chunks=True):
                remove(directory / record["path"])
    for name in (MANIFEST, KEPT):
        remove(directory / name)
