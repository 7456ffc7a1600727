"""Config files: what YAML takes in silence is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kd.common.errors import UserError
from kd.config.load import read_config
from tests.conftest import ROOT


def reading(path: Path, content: str | bytes) -> dict[str, object]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_config(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "a: this key stands twice, in lines 1 and 3; expected once"),
        ("a:\n  b:\n    - {c: 1, c: 2}\n", "a.b.0.c: this key stands twice, in lines 3 and 3"),
        ('a: {b: 1}\n"a": {}\n', "a: this key stands twice, in lines 1 and 2"),
        ("yes: 1\ntrue: 2\n", "true: this key stands twice, in lines 1 and 2"),
        ("x: &x {b: 1}\na:\n  <<: *x\n  c: 1\n  c: 2\n", "a.c: this key stands twice, in lines 4 and 5"),
        ('{"a":\n\t{"b": 1,\n\t"b": 2}}', "b: this key stands twice in one object; expected once"),
    ],
)
def test_read_config__a_key_stands_once_at_any_depth(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(UserError, match=f"my.yaml: {message}"):
        reading(tmp_path / "my.yaml", content)


def test_read_config__keeps_anchors_and_merged_keys(tmp_path: Path) -> None:
    text = "x: &x {b: 1, c: 2}\ny: &y {d: 3}\na: {<<: [*x, *y], b: 9}\ne: *x\nf:\n  <<: *x\n  c: 8\n"
    assert reading(tmp_path / "my.yaml", text) == {
        "x": {"b": 1, "c": 2},
        "y": {"d": 3},
        "a": {"b": 9, "c": 2, "d": 3},
        "e": {"b": 1, "c": 2},
        "f": {"b": 1, "c": 8},
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- a\n", "my.yaml: holds list, expected the keys of a config"),
        ("", "my.yaml: holds NoneType, expected the keys of a config"),
        ("a:\n\t- 1\n", "my.yaml, line 2: is not valid YAML: .*indent by blanks, not by tabs"),
        ("a: 1\nb: @x\n", "my.yaml, line 2: is not valid YAML: .*cannot start any token$"),
        ("a: b: c\n", "my.yaml, line 1: is not valid YAML: mapping values are not allowed"),
        ("[" * 100_000, "my.yaml.*: is not valid YAML"),
        ("a: 1\0\n", "my.yaml: is not valid YAML: unacceptable character"),
        ("a: &x [*x]\n", "my.yaml: a.0: stands within itself"),
        ("? [1, 2]\n: 3\n", "my.yaml, line 1: is not valid YAML: .*unhashable key"),
        (b"a: caf\xe9\n", "my.yaml: is not text in UTF-8 .*; save it as UTF-8"),
        ("a: 1".encode("utf-16"), "my.yaml: is not text in UTF-8"),
        ("seeds: [1, 010]\n", "seeds.1: YAML reads 010 in line 1 as 8; write 8, or put it in quotes"),
        ("a:\n  runtime: 4:30\n", "a.runtime: YAML reads 4:30 in line 2 as 270; write 270, or put it in quotes"),
        ("a: 2024-02-31\n", "a: 2024-02-31 in line 1 is no value .*; put it in quotes"),
    ],
)
def test_read_config__says_what_was_read(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        reading(tmp_path / "my.yaml", content)


def test_read_config__names_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none.yaml: cannot be read \(No such file or directory\)"):
        read_config(tmp_path / "none.yaml")


def test_read_config__reads_a_byte_order_mark_and_json(tmp_path: Path) -> None:
    assert reading(tmp_path / "my.yaml", b"\xef\xbb\xbfa: 007\n") == {"a": 7}
    content = {"a": [1e-3, "no", None], "\U0001f600": {"\t": 2}}
    assert reading(tmp_path / "my.json", json.dumps(content, indent="\t")) == content
    assert read_config(ROOT / "config" / "config.yaml")["experiment"] == "demo"
