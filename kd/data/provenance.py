"""What a store says of itself, so that it is not taken for another that lies where it should.

Chunks have their checksums, but nothing in them says whose they are: by another teacher, of another split or
of other views they look the same. The store's own attributes say it, written before the first chunk.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kd.artefacts.job import read_job, spec_differences
from kd.common.errors import shown

MADE_FROM = "made_from"
Origin = dict[str, Any]


def origin_of(record: dict[str, Any]) -> Origin:
    """The key of a job or a manifest, and what it stands for: the spec, and what counts of upstreams beside code."""
    upstream = {role: up["config_identity"] for role, up in record["upstream"].items()}
    return {"stage": record["stage"], "key": record["key"], "spec": record["spec"], "upstream": upstream}


def begun_origin(directory: Path) -> Origin | None:
    """The origin of the artefact being built; None outside a job."""
    job = read_job(directory)
    return None if job is None else origin_of(job.model_dump(mode="json"))


def origin_difference(found: Any, manifest: dict[str, Any]) -> str | None:
    """The first field of a store's own record that differs from a manifest, found -> expected, or None."""
    expected = origin_of(manifest)
    if not isinstance(found, dict):
        return f"{MADE_FROM}: absent" if found is None else f"{MADE_FROM}: found {shown(found)}"
    # What was adopted has the key that it was made under, and differs in code alone.
    keys, adopted = [expected["key"]], manifest.get("adopted")
    while adopted:
        keys.append(adopted["from"])
        adopted = adopted.get("before")
    if found.get("key") in keys:
        expected = expected | {"key": found["key"]}
    # The key last: any other field says more.
    fields = ("stage", "spec", "upstream", "key")
    return next((text for field in fields for text in spec_differences(found.get(field), expected[field], field)), None)
