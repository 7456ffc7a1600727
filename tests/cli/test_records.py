"""Whose tables lie in the folder of an experiment."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kd.cli import records
from kd.cli.records import SIGNATURE, other_owner, sign, user_name


def test_other_owner__is_told_by_user_or_config_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert other_owner(tmp_path, "/a.yaml") is None  # nobody's yet
    sign(tmp_path, "main", "/a.yaml")
    assert json.loads((tmp_path / SIGNATURE).read_text())["user"] == user_name()
    assert other_owner(tmp_path, "/a.yaml") is None
    said = other_owner(tmp_path, "/b.yaml")
    assert said is not None
    assert said.startswith(f"{user_name()}, 2")
    assert said.endswith(", from /a.yaml")
    monkeypatch.setattr(records, "user_name", lambda: "somebody")
    assert other_owner(tmp_path, "/a.yaml") is not None
    (tmp_path / SIGNATURE).write_text("{}")
    assert other_owner(tmp_path, "/a.yaml") is None


def test_user_name__where_the_system_knows_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getuid", lambda: 2**31 - 7)
    assert user_name() == str(2**31 - 7)
