"""What a run tells its jobs in files, whose tables lie in a folder, and what jobs said last."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from kd.artefacts import owner
from kd.artefacts.owner import SIGNATURE, other_owner, sign, user_name
from kd.common.errors import UserError
from kd.jobs.failures import last_error
from kd.jobs.handover import config_file, hand_over, handed_over, job_file, stale, told_file
from tests.artefacts.building import job


def test_job_file__runs_that_read_other_stores_do_not_meet(tmp_path: Path) -> None:
    """A job of one key may be told two things: stores with different numbers of views have one identity."""
    made = job(tmp_path, "reader", store=job(tmp_path, "store"))
    other = made.upstream["store"].model_copy(update={"directory": tmp_path / "elsewhere"})
    assert job_file(made) == job_file(made.model_copy())
    assert job_file(made) != job_file(made.model_copy(update={"upstream": {"store": other}}))
    assert config_file(tmp_path, "{}") != config_file(tmp_path, "[]")


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


def test_other_owner__is_told_by_user_or_config_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert other_owner(tmp_path, "/a.yaml") is None  # nobody's yet
    sign(tmp_path, "main", "/a.yaml")
    assert json.loads((tmp_path / SIGNATURE).read_text())["user"] == user_name()
    assert other_owner(tmp_path, "/a.yaml") is None
    said = other_owner(tmp_path, "/b.yaml")
    assert said is not None
    assert said.startswith(f"{user_name()}, 2")
    assert said.endswith(", from /a.yaml")
    monkeypatch.setattr(owner, "user_name", lambda: "somebody")
    assert other_owner(tmp_path, "/a.yaml") is not None
    (tmp_path / SIGNATURE).write_text("{}")
    assert other_owner(tmp_path, "/a.yaml") is None


def test_user_name__where_the_system_knows_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getuid", lambda: 2**31 - 7)
    assert user_name() == str(2**31 - 7)


TRACEBACK = "Traceback (most recent call last):\n  File ...\n"


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("12:00:00 building\nerror: lower recipe lr\n", "lower recipe lr"),
        ("error: of one process\n12:00:00 another says more\n", "of one process"),
        (f"{TRACEBACK}ValueError: no\n\n", "ValueError: no"),
        (f"{TRACEBACK}ValueError: no\nerror: yes\n", "yes"),
        (
            "12:00:00 step 3\n",
            "ended without an error message, as when it is killed for its memory; its last line is: 12:",
        ),
        ("", "ended without an error message, as when it is killed for its memory; its log is empty"),
        (None, "ended without an error message, as when it is killed for its memory; its log is empty"),
    ],
)
def test_last_error__whoever_had_the_last_word(tmp_path: Path, log: str | None, said: str) -> None:
    path = tmp_path / "job.log"
    if log is not None:
        path.write_text(log)
    assert last_error(path).startswith(said)
