"""What a run tells its jobs in files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kd.common.errors import UserError
from kd.jobs.handover import hand_over, handed_over, job_file, stale, told_file
from tests.artefacts.building import job


def test_job_file__runs_that_read_other_stores_do_not_meet(tmp_path: Path) -> None:
    """A job of one key may be told two things: stores with different numbers of views have one identity."""
    made = job(tmp_path, "reader", store=job(tmp_path, "store"))
    other = made.upstream["store"].model_copy(update={"directory": tmp_path / "elsewhere"})
    assert job_file(made) == job_file(made.model_copy())
    assert job_file(made) != job_file(made.model_copy(update={"upstream": {"store": other}}))
    assert told_file(tmp_path, "config", "{}") != told_file(tmp_path, "config", "[]")


def test_hand_over__writes_once_and_mends(tmp_path: Path) -> None:
    path = told_file(tmp_path, "stage-name", "{}")
    hand_over(path, "{}")
    before = path.stat().st_ino
    hand_over(path, "{}")
    assert path.stat().st_ino == before
    path.write_text("{")
    hand_over(path, "{}")
    assert handed_over("--job", path) == "{}"


def test_stale__what_no_run_has_handed_over_for_months(tmp_path: Path) -> None:
    paths = [told_file(tmp_path, name, "{}") for name in ("config", "stage-name", "stage-used")]
    for path in paths:
        hand_over(path, "{}")
        os.utime(path, (0, 0))
    hand_over(paths[2], "{}")
    assert list(stale(tmp_path)) == paths[:2]
    assert not list(stale(tmp_path / "elsewhere"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no such file; it is written when a run starts, so run snakemake"),
        (b'{"a": 2}', "was changed since a run wrote it"),
        (b"", "was changed since a run wrote it"),
        (b"\xff", "cannot be read: 'utf-8' codec"),
    ],
)
def test_handed_over__is_what_the_run_wrote_or_an_error(tmp_path: Path, content: bytes | None, said: str) -> None:
    """A results folder may be shared with people who could write anything there."""
    path = told_file(tmp_path, "config", '{"a": 1}')
    if content is not None:
        path.parent.mkdir()
        path.write_bytes(content)
    with pytest.raises(UserError, match=f"--config: {path}: {said}"):
        handed_over("--config", path)
    path.unlink(missing_ok=True)
    path.mkdir(parents=True)
    with pytest.raises(UserError, match="is no plain file"):
        handed_over("--config", path)


def test_hand_over__follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    path = told_file(tmp_path, "config", "{}")
    path.parent.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"\.jobs: is a link"):
        hand_over(path, "{}")
    assert not list((tmp_path / "elsewhere").iterdir())
