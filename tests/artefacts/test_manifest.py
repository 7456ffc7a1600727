"""Manifests: what is recorded of each file, and that every difference is noticed and named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kd.artefacts.files import chunk_array, file_records
from kd.artefacts.job import Job
from kd.artefacts.manifest import FORMAT, KEPT, NewerFormatError, check_manifest, read_manifest
from kd.common.errors import UserError
from kd.jobs.run import run_job
from tests.artefacts.building import Spec, job, refuse, write, write_store


@pytest.fixture
def store(tmp_path: Path) -> Job:
    made = job(tmp_path)
    run_job(made, Spec(text="x"), write_store)
    return made


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(bytes(content))


def rows(made: Job, chunk: int) -> Path:
    return made.directory / f"data.zarr/rows/c.{chunk}.0"


def swap(first: Path, second: Path) -> None:
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)


def test_manifest__records_chunks_by_their_own_checksum(store: Job) -> None:
    records = {record["path"]: record for record in read_manifest(store)["files"]}
    assert set(records["data.zarr/rows/c.0.0"]) == {"path", "bytes", "crc32c"}
    assert set(records["data.zarr/plain/c.0.0"]) == {"path", "bytes", "sha256"}
    assert set(records["data.zarr/rows/zarr.json"]) == {"path", "bytes", "sha256"}


DAMAGES: list[tuple[Callable[[Job], Any], str]] = [
    (lambda made: rows(made, 1).unlink(), r"rows/c\.1\.0: is missing"),
    (lambda made: rows(made, 1).write_bytes(rows(made, 1).read_bytes()[4:]), r"rows/c\.1\.0: bytes: found 48, its"),
    (lambda made: swap(rows(made, 0), rows(made, 1)), r"rows/c\.0\.0: crc32c: found \w{8}, its manifest says \w{8}"),
    (lambda made: flip(made.directory / "data.zarr/rows/zarr.json", 9), r"zarr\.json: sha256: found"),
    (lambda made: flip(made.directory / "data.zarr/plain/c.0.0", 0), r"plain/c\.0\.0: sha256: found"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES)
def test_read_manifest__names_the_file_and_what_differs(store: Job, damage: Any, message: str) -> None:
    damage(store)
    with pytest.raises(UserError, match=message):
        read_manifest(store)


def test_check_manifest__reads_chunks_whole_when_asked(store: Job) -> None:
    flip(rows(store, 1), 5)
    manifest = read_manifest(store)
    with pytest.raises(UserError, match=r"rows/c\.1\.0: crc32c: found \w{8}"):
        check_manifest(manifest, store, chunks=True)


def test_file_records__refuses_a_chunk_that_was_damaged_while_it_was_written(store: Job) -> None:
    flip(rows(store, 2), 5)
    with pytest.raises(UserError, match=r"rows/c\.2\.0: damaged while it was written"):
        file_records(store.directory)


@pytest.mark.parametrize(
    ("path", "array"),
    [
        ("a.zarr/train/L1/c.0.3", "a.zarr/train/L1"),
        ("a.zarr/c.0", "a.zarr"),
        ("a.zarr/train/c.0/zarr.json", None),
        ("a.zarr/train/zarr.json", None),
        ("a.zarr/train/c.csv", None),
        ("c.0/a.zarr", None),
        ("c.0", None),
    ],
)
def test_chunk_array__by_path(path: str, array: str | None) -> None:
    assert chunk_array(Path(path)) == (None if array is None else Path(array))


def test_read_manifest__the_kept_copy_counts_if_all_is_whole(store: Job) -> None:
    """As while another controller runs a redundant job, before which Snakemake deletes the declared output."""
    store.manifest.unlink()
    assert read_manifest(store)["key"] == store.key
    rows(store, 0).unlink()
    with pytest.raises(UserError, match="is missing"):
        read_manifest(store)


def change(made: Job, **fields: Any) -> None:
    manifest = json.loads(made.manifest.read_text())
    made.manifest.write_text(json.dumps(manifest | fields))


def test_read_manifest__other_formats(store: Job) -> None:
    change(store, format=FORMAT + 1)
    with pytest.raises(NewerFormatError, match=r"format: written by a newer version of kd \(3, this one knows 2\)"):
        read_manifest(store)
    with pytest.raises(NewerFormatError):  # and nothing of it is touched
        run_job(store, Spec(text="x"), refuse)
    change(store, format=1)
    with pytest.raises(UserError, match="format: written by an older version"):
        read_manifest(store)
    store.manifest.write_text(json.dumps({"format": FORMAT, "stage": "stage"}))
    with pytest.raises(UserError, match="name: is missing"):
        read_manifest(store)


def test_read_manifest__of_another_key_says_what_differs(tmp_path: Path) -> None:
    input_ = job(tmp_path, "input")
    made = job(tmp_path, "a", text="hello", input=input_)
    run_job(input_, Spec(text="x"), write)
    run_job(made, Spec(text="hello"), write)
    wanted = job(tmp_path, "a", text="bye", code="2", input=job(tmp_path, "input", text="other"))
    shutil.copytree(made.directory, wanted.directory)
    with pytest.raises(UserError) as caught:
        read_manifest(wanted)
    text = str(caught.value)
    assert f"key: found {made.key}, expected {wanted.key}" in text
    assert 'spec text: "hello" -> "bye"' in text
    assert "upstream input: " in text
    assert "code kd/stages/stage.py: changed" in text
    change(made, stage="other")
    with pytest.raises(UserError, match="stage: found other, expected stage"):
        read_manifest(made)


def test_restore_manifest__removes_what_is_damaged_and_keeps_the_rest(store: Job) -> None:
    flip(rows(store, 1), 5)

    def look(context: Any) -> Any:
        assert not rows(store, 1).exists()
        assert rows(store, 0).exists()
        assert not (context.directory / KEPT).exists()
        shutil.rmtree(context.directory / "data.zarr")
        return write_store(context)

    run_job(store, Spec(text="x"), look)
    check_manifest(read_manifest(store), store, chunks=True)


def test_manifest__records_upstreams_with_what_counts_of_them(tmp_path: Path) -> None:
    first = job(tmp_path, "first")
    second = Job.make(
        tmp_path, "stage", "second", spec={}, code={}, upstream={"input": first.as_upstream(unread=("text",))}
    )
    run_job(first, Spec(text="x"), write)
    run_job(second, Spec(text="x"), write)
    recorded = read_manifest(second)["upstream"]["input"]
    assert recorded["key"] == first.key
    assert recorded["identity"] == second.upstream["input"].identity != first.key
    same = Job.make(
        tmp_path,
        "stage",
        "second",
        spec={},
        code={},
        upstream={"input": job(tmp_path, "first", text="other").as_upstream(unread=("text",))},
    )
    assert same.key == second.key


def test_job__config_key_leaves_out_all_code(tmp_path: Path) -> None:
    old = job(tmp_path, "b", input=job(tmp_path, "a"))
    new = job(tmp_path, "b", input=job(tmp_path, "a", code="2"))
    assert old.key != new.key
    assert old.config_key == new.config_key
    other = job(tmp_path, "b", input=job(tmp_path, "a", text="other"))
    assert old.config_key != other.config_key


def test_job__as_made_reads_what_it_read(tmp_path: Path) -> None:
    """Not the store that was enlarged since."""

    def reader(store: Job) -> Job:
        return Job.make(
            tmp_path, "stage", "reader", spec={}, code={}, upstream={"store": store.as_upstream(unread=("text",))}
        )

    small, large = job(tmp_path, "store", text="L1"), job(tmp_path, "store", text="L1 L2")
    assert reader(small).key == reader(large).key
    assert reader(large).as_made() == reader(large)
    run_job(small, Spec(text="x"), write)
    run_job(reader(small), Spec(text="x"), write)
    assert reader(large).as_made() == reader(small)
    shutil.rmtree(small.directory)
    assert reader(large).as_made() == reader(large)
