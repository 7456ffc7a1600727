"""Whatever is wrong with a store is found and named, by `verify` and by the stage that opens it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zarr

from kd.artefacts.files import file_records
from kd.artefacts.job import Job, artefact_key
from kd.artefacts.manifest import KEPT, load_manifest, publish_manifest
from kd.cli.verify import verify
from kd.common.errors import UserError
from kd.config.load import load_config
from kd.data.provenance import MADE_FROM
from kd.embeddings.store import STORE
from kd.planning.plan import Plan
from kd.verification.recomputation import sample_rows
from tests.conftest import make

EMBEDDINGS, READER = "one-on-digits-seed0", "half-on-digits-seed0"
CHUNK = Path(STORE) / "train/L2/c.1.1.0.0.0"


@pytest.fixture
def plan(tmp_path: Path, finished: Plan, many_layouts: dict[str, Any]) -> Plan:
    """A copy of all that was made, free to be damaged."""
    results = tmp_path / "results"
    shutil.copytree(finished.config.results, results)
    return Plan(load_config(many_layouts | {"results": str(results)}))


def jobs_named(plan: Plan, stage: str, name: str) -> list[Job]:
    return [job for job in plan.stage(stage) if job.name == name]


def read_by_targets(plan: Plan) -> Job:
    """The store that READER reads; there are others of the same name, with other views or precision."""
    (reader,) = jobs_named(plan, "cache_targets", READER)
    return plan.jobs[reader.upstream["embeddings:one"].directory]


def repair(directory: Path) -> None:
    """Make a manifest record whatever lies there."""
    manifest = load_manifest(directory)
    assert manifest is not None
    publish_manifest(manifest | {"files": file_records(directory)}, directory)


def swap(directory: Path) -> None:
    first, second = directory / CHUNK, directory / STORE / "train/L2/c.1.0.0.0.0"
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)


def flip(store: Job, _: Plan) -> None:
    content = bytearray((store.directory / CHUNK).read_bytes())
    content[5] ^= 1
    (store.directory / CHUNK).write_bytes(content)


def remove(store: Job, _: Plan) -> None:
    (store.directory / CHUNK).unlink()


def truncate(store: Job, _: Plan) -> None:
    (store.directory / CHUNK).write_bytes((store.directory / CHUNK).read_bytes()[:-1])


def swap_chunks(store: Job, _: Plan) -> None:
    swap(store.directory)


def forget_a_chunk(store: Job, _: Plan) -> None:
    (store.directory / CHUNK).unlink()
    repair(store.directory)


def edit_the_manifest(store: Job, _: Plan) -> None:
    manifest = load_manifest(store.directory)
    assert manifest is not None
    manifest["spec"]["augmentation"]["rotation"] = 11.0
    publish_manifest(manifest, store.directory)


def other_manifest(store: Job, plan: Plan) -> None:
    (other,) = jobs_named(plan, "cache_embeddings", "one-on-other-seed0")[:1]
    publish_manifest(load_manifest(other.directory) or {}, store.directory)


def put(store: Job, other: Job) -> None:
    """Another store in the place of one, recorded by its manifest."""
    shutil.rmtree(store.directory / STORE)
    shutil.copytree(other.directory / STORE, store.directory / STORE)
    repair(store.directory)


def other_weights(store: Job, plan: Plan) -> None:
    put(store, jobs_named(plan, "cache_embeddings", "two-on-digits-seed0")[0])


def other_split(store: Job, plan: Plan) -> None:
    put(store, jobs_named(plan, "cache_embeddings", "one-on-other-seed0")[0])


def other_views(store: Job, plan: Plan) -> None:
    named = jobs_named(plan, "cache_embeddings", EMBEDDINGS)
    put(store, next(job for job in named if job.spec["augmentation"]["rotation"] == 40))


DAMAGES: list[tuple[Callable[[Job, Plan], None], str, str]] = [
    (flip, rf"{CHUNK}: crc32c: found \w+, its manifest says \w+", rf"{CHUNK}: does not have the CRC32C"),
    (remove, rf"{CHUNK}: is missing", rf"{CHUNK}: is missing"),
    (truncate, rf"{CHUNK}: bytes: found \d+, its manifest", rf"{CHUNK}: bytes: found \d+, its manifest"),
    (
        swap_chunks,
        rf"{CHUNK}: crc32c: found \w+, its manifest",
        r"train/L2/c\.1\.\d\.0\.0\.0: crc32c: found \w+, its manifest",
    ),
    (forget_a_chunk, rf"{CHUNK}: is missing, and its manifest does not list it", rf"{CHUNK}: chunk is missing"),
    (
        edit_the_manifest,
        r"manifest\.json: spec augmentation\.rotation: 11\.0 -> 10\.0",
        r"another artefact than its manifest says: spec\.augmentation\.rotation: 10\.0 -> 11\.0",
    ),
    (other_manifest, r"manifest\.json: name: found one-on-other-seed0, expected", r"name: found one-on-other-seed0"),
    (other_weights, r"manifest says: upstream\.teacher:", r"manifest says: upstream\.teacher:"),
    (other_split, r"manifest says: spec\.dataset: ", r"manifest says: spec\.dataset: "),
    (
        other_views,
        r"manifest says: spec\.augmentation\.rotation: 40\.0 -> 10\.0",
        r"manifest says: spec\.augmentation\.rotation: 40\.0 -> 10\.0",
    ),
]


@pytest.mark.parametrize(("damage", "found", "refused"), DAMAGES, ids=lambda value: getattr(value, "__name__", ""))
def test_damage__is_found_and_refused(
    plan: Plan, damage: Callable[[Job, Plan], None], found: str, refused: str
) -> None:
    store = read_by_targets(plan)
    damage(store, plan)
    lines, message = verified(plan, [str(store.directory)])
    assert any(re.search(found, line) for line in lines), lines
    assert all(line.startswith(f"WRONG cache_embeddings/{EMBEDDINGS}/{store.key}: ") for line in lines)
    assert message.startswith("1 of 1 artefacts are not")
    (reader,) = jobs_named(plan, "cache_targets", READER)
    shutil.rmtree(reader.directory)
    with pytest.raises(UserError, match=refused):
        make(reader)


def verified(plan: Plan, names: list[str]) -> tuple[list[str], str]:
    lines = []
    try:
        for line in verify(plan, names, rows=8):
            lines.append(line)  # noqa: PERF402 - those before the error count too
    except UserError as error:
        return lines, str(error)
    return lines, ""


def test_verify__everything_is_right_and_as_the_teachers_say(finished: Plan) -> None:
    """Of every precision and resolution, by name, from a directory, and all at once."""
    lines, message = verified(finished, [])
    assert message == ""
    assert lines[-1] == f"{len(finished.jobs)} verified, 0 of the config are not finished"
    assert all(line.startswith("ok ") for line in lines[:-1])
    lines, message = verified(finished, ["train_teacher/one-seed0"])
    assert (len(lines), message) == (2, "")
    assert "did you mean" in verified(finished, ["train_teacher/oneseed0"])[1]


def test_verify__a_directory_of_another_config(finished: Plan, plan: Plan) -> None:
    """Of a results folder that the config knows nothing of."""
    directory = str(read_by_targets(plan).directory)
    assert verified(finished, [directory]) == (
        [f"ok    cache_embeddings/{EMBEDDINGS}/{Path(directory).name}", "1 verified"],
        "",
    )


@pytest.mark.parametrize("stage", ["cache_embeddings", "cache_targets"])
def test_verify__swapped_chunks_whose_manifest_was_repaired(plan: Plan, stage: str) -> None:
    """Nothing but the values themselves tells; only computing them again does."""
    (reader,) = jobs_named(plan, "cache_targets", READER)
    store = reader if stage == "cache_targets" else read_by_targets(plan)
    swap(store.directory)
    repair(store.directory)
    lines, message = verified(plan, [str(store.directory)])
    assert [re.search(r"train/L2: view \d: \d+ of \d+ rows", line) is not None for line in lines] == [True]
    assert message


@pytest.mark.parametrize("other", ["two-on-digits-seed0", "one-on-other-seed0", EMBEDDINGS])
def test_verify__the_chunks_of_another_store_under_the_own_attributes(plan: Plan, other: str) -> None:
    """By other weights, of another split, of other views: also where the store claims to be the right one."""
    store = read_by_targets(plan)
    source = next(
        job
        for job in jobs_named(plan, "cache_embeddings", other)
        if job != store and job.spec["cache"] == store.spec["cache"]
    )
    for level in store.spec["arrays"]:
        for chunk in (source.directory / STORE / "train" / level).glob("c.*"):
            shutil.copy(chunk, store.directory / STORE / "train" / level)
    repair(store.directory)
    lines, _ = verified(plan, [str(store.directory)])
    assert len(lines) == 2  # one for each view
    assert all("rows computed again differ" in line for line in lines)


def test_verify__lists_all_problems(plan: Plan) -> None:
    store = read_by_targets(plan)
    (store.directory / CHUNK).unlink()
    (store.directory / STORE / "val/L2/c.0.0.0.0.0").write_bytes(b"")
    (teacher,) = jobs_named(plan, "train_teacher", "one-seed0")
    (teacher.directory / "history.csv").write_text("")
    lines, message = verified(plan, [str(store.directory), "one-seed0"])
    assert len(lines) == 3
    assert message.startswith("2 of 2")


def test_verify__what_is_not_finished_or_has_lost_its_teacher(plan: Plan) -> None:
    store = read_by_targets(plan)
    teacher = store.upstream["teacher"].directory
    shutil.rmtree(teacher)
    lines, _ = verified(plan, [str(store.directory), "one-seed0"])
    assert f"cannot be computed again: its teacher, {teacher}, is no longer there" in lines[0]
    assert lines[1].endswith("is not finished")


@pytest.mark.parametrize("change", [{"spec": {}}, {"spec": {"views": "x"}}, {"upstream": {}}])
def test_verify__a_manifest_whose_spec_is_none_of_its_stage(plan: Plan, change: dict[str, Any]) -> None:
    """Also where its key is the one that it should have, and its store agrees."""
    store = read_by_targets(plan)
    manifest = (load_manifest(store.directory) or {}) | change
    identities = {role: up["identity"] for role, up in manifest["upstream"].items()}
    manifest["key"] = artefact_key(manifest["stage"], manifest["spec"], identities, manifest["code"])
    directory = store.directory.with_name(manifest["key"])
    store.directory.rename(directory)
    publish_manifest(manifest, directory)
    upstream = {role: up["config_identity"] for role, up in manifest["upstream"].items()}
    made_from = {field: manifest[field] for field in ("stage", "key", "spec")} | {"upstream": upstream}
    zarr.open_group(directory / STORE, mode="a").attrs.update({MADE_FROM: made_from})
    repair(directory)
    lines, message = verified(plan, [str(directory)])
    assert any("none of cache_embeddings" in line for line in lines), lines
    assert message


def test_stage__makes_a_foreign_store_anew(plan: Plan) -> None:
    """Where the manifest is gone, chunks of another artefact are not taken for work that was done."""
    store = read_by_targets(plan)
    before = json.loads(store.manifest.read_text())["files"]
    other_weights(store, plan)
    for path in (store.manifest, store.directory / KEPT):
        path.unlink()
    make(store)
    assert json.loads(store.manifest.read_text())["files"] == before


def test_sample_rows__has_one_of_every_chunk() -> None:
    assert sample_rows(10, 3, 100).tolist() == [0, 4, 9]
    picked = sample_rows(1000, 32, 16)
    assert {int(row) // 16 for row in picked} == set(range(63))
    assert len(sample_rows(5, 32, 16)) == 5
