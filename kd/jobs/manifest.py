"""manifest.json: the record that makes a directory a complete, checkable artefact."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from kd.jobs.errors import UserError
from kd.jobs.job import MANIFEST, Job, Upstream

FORMAT = 1
# Snakemake deletes a declared output before it starts a job. This undeclared copy survives, so that a job
# that is started again on a whole artefact notices and does not do the work twice.
KEPT = ".manifest.json"
LIBRARIES = ("torch", "torchvision", "timm", "zarr", "numcodecs", "numpy", "pandas", "lightning-fabric")


def file_digest(path: Path) -> str:
    """The sha256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def file_records(directory: Path) -> list[dict[str, Any]]:
    """Relative path, size in bytes and sha256 of every file below `directory`, hidden ones left out."""
    records = []
    for path in sorted(directory.rglob("*")):
        relative = path.relative_to(directory)
        hidden = any(part.startswith(".") for part in relative.parts)
        if hidden or relative.name == MANIFEST or not path.is_file():
            continue
        records.append({"path": str(relative), "bytes": path.stat().st_size, "sha256": file_digest(path)})
    return records


def git_commit() -> str | None:
    """The commit of the running code, or None outside a git checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that results depend on."""
    versions = {"python": platform.python_version()}
    return versions | {name: importlib.metadata.version(name) for name in LIBRARIES}


def write_manifest(job: Job, *, result: dict[str, Any], seconds: float, device: str) -> None:
    """Record a finished artefact. Written last and by rename: its presence means that all else is there."""
    files = file_records(job.directory)
    manifest = {
        "format": FORMAT,
        "stage": job.stage,
        "name": job.name,
        "key": job.key,
        "spec": job.spec,
        "upstream": {role: up.key for role, up in job.upstream.items()},
        "code": job.code,
        "git_commit": git_commit(),
        "versions": library_versions(),
        "device": device,
        "seconds": round(seconds, 3),
        "bytes": sum(record["bytes"] for record in files),
        "result": result,
        "files": files,
    }
    text = json.dumps(manifest, indent=1, sort_keys=True)
    write_atomically(job.directory / KEPT, text)
    write_atomically(job.manifest, text)


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that it is either wholly there or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(path)


def restore_manifest(job: Job) -> bool:
    """Declare a whole artefact complete again; False when there is work to do."""
    kept = job.directory / KEPT
    if not kept.is_file():
        return False
    try:
        check_manifest(json.loads(kept.read_text()), job.directory, job.key, chunks=True)
    except (UserError, ValueError):
        return False
    write_atomically(job.manifest, kept.read_text())
    return True


def read_manifest(artefact: Upstream | Job) -> dict[str, Any]:
    """The manifest of a finished artefact, checked.

    Raises:
        UserError: the artefact is missing, is of another key, or its files are not those recorded.
    """
    path = artefact.directory / MANIFEST
    if not path.is_file():
        raise UserError(f"{artefact.directory}: not a finished artefact, {MANIFEST} is missing")
    try:
        manifest: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path}: is not valid JSON ({error}); delete it and run again") from error
    check_manifest(manifest, artefact.directory, artefact.key)
    return manifest


def check_manifest(manifest: dict[str, Any], directory: Path, key: str, *, chunks: bool = False) -> None:
    """Compare a manifest with the wanted key and with the files that lie in `directory`.

    Sizes of all files and checksums of all but the Zarr chunks, which carry their own and are checked when
    they are read; `chunks`: those, too.
    """
    if manifest.get("format") != FORMAT:
        raise UserError(f"{directory}: manifest format {manifest.get('format')!r}, this version reads {FORMAT}")
    if manifest["key"] != key:
        raise UserError(f"{directory}: manifest has key {manifest['key']}, expected {key}")
    for record in manifest["files"]:
        path = directory / record["path"]
        size = path.stat().st_size if path.is_file() else None
        found = "is missing" if size is None else f"has {size} bytes"
        if size == record["bytes"]:
            if (".zarr/" in record["path"] and not chunks) or file_digest(path) == record["sha256"]:
                continue
            found = "has other content"
        raise UserError(
            f"{path}: {found}, its manifest says {record['bytes']} bytes, sha256 {record['sha256'][:12]};"
            f" delete {directory} and run again"
        )
