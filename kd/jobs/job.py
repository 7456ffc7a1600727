"""What one workflow job is told: which artefact to build, from what, and where."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

MANIFEST = "manifest.json"


class Upstream(BaseModel):
    """A finished artefact that a job reads."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: str
    name: str
    key: str
    directory: Path


class Job(BaseModel):
    """One artefact to build. Serialised to JSON it is the whole command line of a stage.

    `spec` is everything its content depends on, `upstream` the artefacts it reads (by role), `code` the
    digest of the code that makes it. `key` is derived from these three and nothing else.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: str
    name: str
    key: str
    directory: Path
    code: str
    spec: dict[str, Any]
    upstream: dict[str, Upstream] = {}

    @property
    def manifest(self) -> Path:
        """The one declared output; its presence means that the artefact is complete."""
        return self.directory / MANIFEST


def canonical_json(value: Any) -> str:
    """JSON text that is equal for equal values: sorted keys, no white space."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def artefact_key(stage: str, spec: Any, upstream_keys: dict[str, str], code: str) -> str:
    """16 hex digits that identify an artefact by what makes it."""
    content = {"stage": stage, "spec": spec, "upstream": upstream_keys, "code": code}
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()[:16]
