"""Whether finished artefacts are whole, and whether stores hold what the frozen teachers say today."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zarr
from pydantic import ValidationError

from kd.artefacts.files import damage
from kd.artefacts.job import Job, artefact_key, job_differences
from kd.artefacts.manifest import load_manifest
from kd.artefacts.reading import check_plain
from kd.common.errors import UserError, shown
from kd.data.provenance import MADE_FROM, origin_difference
from kd.data.storage import open_group, read_group, zarr_errors
from kd.stages.registry import STAGES

MOST_MISSING = 100  # chunks of a store that are named


def find_problems(job: Job, rows: int) -> Iterator[str]:
    """Everything that is wrong with the finished artefact of a job.

    Of a store, `rows` of each split and view are computed again, at least, and at least one of every chunk.
    """
    try:
        manifest = load_manifest(job.directory)
        check_plain(job.directory)
    except UserError as error:
        yield str(error)
        return
    if manifest is None:
        yield f"{job.directory}: is not finished"
        return
    problems = [*_manifest_problems(manifest, job), *_file_problems(manifest, job.directory)]
    yield from problems
    if hasattr(STAGES[job.stage].module, "computed") and not any("zarr.json" in problem for problem in problems):
        yield from _recomputed(job, manifest, rows, damaged=bool(problems))


def _manifest_problems(manifest: dict[str, Any], job: Job) -> Iterator[str]:
    """Statements of a manifest that are not true of its job or its files."""
    where = job.manifest
    for field in ("stage", "name", "key"):
        if manifest[field] != getattr(job, field):
            yield f"{where}: {field}: found {manifest[field]}, expected {getattr(job, field)}"
    for text in job_differences(manifest, job):
        yield f"{where}: {text}"
    identities = {role: up["identity"] for role, up in manifest["upstream"].items()}
    key = artefact_key(manifest["stage"], manifest["spec"], identities, manifest["code"])
    if key != manifest["key"]:
        yield f"{where}: key: found {manifest['key']}, but its spec, upstream and code have the key {key}"


def _file_problems(manifest: dict[str, Any], directory: Path) -> Iterator[str]:
    """Damaged files, chunks that nobody lists, and stores that are another's."""
    for record in manifest["files"]:
        wrong = damage(directory, record, chunks=True)
        if wrong:
            yield wrong
    listed = {directory / record["path"] for record in manifest["files"]}
    for store in sorted(directory.glob("*.zarr")):
        try:
            root = read_group(store)
            missing = list(itertools.islice(_missing_chunks(root, store, listed), MOST_MISSING))
        except UserError as error:
            yield str(error)
            continue
        yield from (f"{path}: is missing, and its manifest does not list it" for path in missing)
        attributes: dict[str, Any] = root.attrs.asdict()
        other = origin_difference(attributes.get(MADE_FROM), manifest)
        if other is not None:
            yield f"{store}/zarr.json: is the store of another artefact than its manifest says: {other}"


def _missing_chunks(group: zarr.Group, folder: Path, listed: set[Path]) -> Iterator[Path]:
    """Paths of chunks that an array must have and that are missing, though no manifest lists them.

    Raises:
        UserError: the description of an array cannot be read.
    """
    with zarr_errors(folder):
        members = dict(group.members())
    for name, member in members.items():
        if isinstance(member, zarr.Group):
            yield from _missing_chunks(member, folder / name, listed)
            continue
        counts = [-(-size // chunk) if chunk else 0 for size, chunk in zip(member.shape, member.chunks, strict=True)]
        for place in _places(counts):
            path = folder / name / member.metadata.encode_chunk_key(place)
            if path not in listed and not path.is_file():
                yield path


def _places(counts: list[int]) -> Iterator[tuple[int, ...]]:
    """All places in a grid, in order; unlike `itertools.product`, nothing is kept in memory."""
    if not counts:
        yield ()
        return
    for first in range(counts[0]):
        yield from ((first, *others) for others in _places(counts[1:]))


def _recomputed(job: Job, manifest: dict[str, Any], rows: int, *, damaged: bool) -> Iterator[str]:
    """Rows that are not what is computed now; where files are damaged, only of what can still be read."""
    from kd.embeddings.store import STORE
    from kd.models.devices import make_fabric
    from kd.verification.recomputation import NOISE_CPU, NOISE_GPU, split_differences

    results = job.directory.parents[2]
    upstream = {role: results / up["stage"] / up["name"] / up["key"] for role, up in manifest["upstream"].items()}
    for role, directory in upstream.items():
        if not directory.is_dir():
            yield f"{job.directory}: cannot be computed again: its {shown(role)}, {directory}, is no longer there"
            return
    stage, fabric = STAGES[job.stage], make_fabric("32")
    noise = NOISE_CPU if manifest["device"] == fabric.device.type == "cpu" else NOISE_GPU
    try:
        for directory in upstream.values():
            check_plain(directory)
        open_group(job.directory / STORE)
        splits = stage.module.computed(stage.spec.model_validate(job.spec), upstream, fabric)
        for split in splits:
            yield from split_differences(job.directory, split, rows, noise)
    except UserError as error:
        if not damaged:  # else it was said before, with the file
            yield str(error)
    except (ValidationError, KeyError) as error:
        yield f"{job.manifest}: its spec or its upstream are none of {job.stage}: {shown(error)}"
