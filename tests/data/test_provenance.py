"""A store says whose it is, also after it was adopted for other code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kd.artefacts.manifest import job_record
from kd.data.provenance import origin_difference, origin_of
from tests.artefacts.building import job


def test_origin__of_adopted_stores_is_that_of_the_first(tmp_path: Path) -> None:
    first, second, third = (job(tmp_path, code=code) for code in "123")
    manifest: dict[str, Any] = job_record(third) | {"adopted": None}
    found = origin_of(job_record(first))
    assert origin_difference(origin_of(job_record(third)), manifest) is None
    assert origin_difference(found, manifest) == f'key: "{first.key}" -> "{third.key}"'
    adopted = {"from": second.key, "before": {"from": first.key, "before": None}}
    assert origin_difference(found, manifest | {"adopted": adopted}) is None
    assert origin_difference(found, manifest | {"adopted": adopted, "spec": {"text": "b"}}) == 'spec.text: "a" -> "b"'
    assert origin_difference(None, manifest) == "made_from: absent"
