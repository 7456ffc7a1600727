"""CSV manifests: one class, a list, or a column for each class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from kd.data.sources import csv_manifest
from kd.jobs.errors import UserError
from tests.data.layouts import picture


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("cat/0", "dog/1", "fox/2"):
        picture(tmp_path / f"{name}.png")
    return tmp_path


def manifest(path: Path, text: str, **options: Any) -> csv_manifest.Options:
    path.write_bytes(text.encode(errors="surrogateescape"))
    return csv_manifest.Options(csv=path, **options)


def multi(path: Path, text: str, **options: Any) -> csv_manifest.Options:
    return manifest(path, text, task="multi_label", **options)


def test_csv_manifest__rows_are_samples(folder: Path) -> None:
    options = manifest(folder / "list.csv", "path,label,split\ncat/0.png,feline,train\ndog/1.png,canine|x,test\n")
    samples = csv_manifest.read(options).samples
    assert [(each.id, each.labels, each.split) for each in samples] == [
        ("cat/0.png", ("feline",), "train"),
        ("dog/1.png", ("canine|x",), "test"),
    ]
    assert samples[0].open().size == (12, 10)
    assert csv_manifest.classes(options) is None
    without = manifest(folder / "short.csv", "path,label\ncat/0.png,feline\n")
    assert csv_manifest.read(without).samples[0].split is None
    assert csv_manifest.fingerprint(options) != csv_manifest.fingerprint(without)


def test_csv_manifest__of_a_multi_label_dataset_holds_lists(folder: Path) -> None:
    options = multi(folder / "list.csv", "path,label\ncat/0.png,tabby|feline|tabby\ndog/1.png, canine \n")
    assert [each.labels for each in csv_manifest.read(options).samples] == [("feline", "tabby"), ("canine",)]
    assert csv_manifest.classes(options) is None
    listed = multi(folder / "list.csv", "path,label\ncat/0.png,feline\n", classes=["fox", "feline"])
    assert csv_manifest.classes(listed) == ["fox", "feline"]
    assert csv_manifest.fingerprint(listed) != csv_manifest.fingerprint(listed.model_copy(update={"classes": None}))


COLUMNS = "path,cat,dog,split\ncat/0.png,1,1,train\ndog/1.png,0,1,val\nfox/2.png,0,0,test\n"


@pytest.mark.parametrize("chosen", ["all", ["cat", "dog"]])
def test_csv_manifest__or_a_column_of_zeros_and_ones_for_each_class(folder: Path, chosen: Any) -> None:
    options = multi(folder / "list.csv", COLUMNS, label_columns=chosen, unlabelled="keep")
    samples = csv_manifest.read(options).samples
    assert [(each.labels, each.split) for each in samples] == [
        (("cat", "dog"), "train"),
        (("dog",), "val"),
        ((), "test"),
    ]
    assert csv_manifest.classes(options) == ["cat", "dog"]


def test_csv_manifest__columns_of_a_single_label_dataset_hold_one_1(folder: Path) -> None:
    text = "path,cat,dog\ncat/0.png,1,0\ndog/1.png,0,1\n"
    options = manifest(folder / "list.csv", text, label_columns="all")
    assert [each.labels for each in csv_manifest.read(options).samples] == [("cat",), ("dog",)]
    with pytest.raises(UserError, match=r"line 2: labels are \['cat', 'dog'\], expected exactly one"):
        csv_manifest.fingerprint(manifest(folder / "list.csv", COLUMNS.replace("0,0", "1,0"), label_columns="all"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,class\ncat/0.png,a\n", "has no column 'label'"),
        ("path,label\n", "has a header but no rows"),
        ("path,label\n,a\n", "line 2: column 'path' is empty"),
        ("path,label\ncat/0.png,\n", r"line 2: cat/0.png has no label; .*source.unlabelled: drop"),
        ("path,label,split\ncat/0.png,a,training\n", "line 2: split is 'training', expected one of"),
        ("path,label,split\ncat/0.png,a\n", "line 2: split is None, expected one of"),
        ("path,label\ncat/0.png,a\ncat/0.png,b\n", "line 3: cat/0.png is listed twice"),
        ("path,label\ncat/0.png,a\n./cat/0.png,b\n", "line 3: ./cat/0.png is listed twice, first in .*2 as cat/0.png"),
        ("path,label\ncat/0.png,a\ndog/../cat//0.png,b\n", "line 3: dog/../cat//0.png is listed twice"),
        ("path,label,label\ncat/0.png,a,b\n", "list.csv: has 2 columns 'label', expected one"),
        ("path,label,split,split\ncat/0.png,a,train,test\n", "list.csv: has 2 columns 'split', expected one"),
        ("path,label\ncat/9.png,a\n", r"cat/9.png: no such image file \(1 of 1 are missing\)"),
        ("path,label\ncat/\udcff.png,a\n", "is not a CSV file in UTF-8"),
    ],
)
def test_csv_manifest__mistakes(folder: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        csv_manifest.fingerprint(manifest(folder / "list.csv", text))


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("path,label\ncat/0.png,a||b\n", {}, r"line 2: column 'label' is 'a\|\|b', expected names joined by '\|'"),
        ("path,cat\ncat/0.png,2\n", {"label_columns": "all"}, "line 2: column 'cat' is '2', expected 0 or 1"),
        ("path,cat,cat\ncat/0.png,1,0\n", {"label_columns": "all"}, "list.csv: has 2 columns 'cat', expected one"),
        ("path,cat\ncat/0.png,1\n", {"label_columns": ["fox"]}, "has no column 'fox'; its columns are"),
    ],
)
def test_csv_manifest__mistakes_in_lists(folder: Path, text: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        csv_manifest.fingerprint(multi(folder / "list.csv", text, **options))


def test_csv_manifest__missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a file"):
        csv_manifest.fingerprint(csv_manifest.Options(csv=tmp_path / "none.csv"))


def test_csv_manifest__duplicates_of_another_class_are_no_single_label(folder: Path) -> None:
    text = "path,label\ncat/0.png,a\ncat/0.png,{}\n"
    same = manifest(folder / "list.csv", text.format("a"), duplicates="merge")
    assert [each.labels for each in csv_manifest.read(same).samples] == [("a",)]
    with pytest.raises(UserError, match=r"line 2: labels are \['a', 'b'\], expected exactly one"):
        csv_manifest.read(manifest(folder / "list.csv", text.format("b"), duplicates="merge"))


def test_csv_manifest__a_picture_is_the_same_however_its_path_is_written(folder: Path) -> None:
    rows = f"cat/0.png,a,train\n{folder}/cat/0.png,a,{{}}\n"
    text = f"path,label,split\n{rows}"
    merged = manifest(folder / "list.csv", text.format("train"), duplicates="merge")
    assert [each.id for each in csv_manifest.read(merged).samples] == ["cat/0.png"]
    with pytest.raises(UserError, match=r"cat/0.png is listed for test, and for train in .* as cat/0.png"):
        csv_manifest.read(manifest(folder / "list.csv", text.format("test"), duplicates="merge"))


def test_csv_manifest__columns_that_are_not_read_may_have_any_names(folder: Path) -> None:
    options = manifest(folder / "list.csv", "path,label,note,note\ncat/0.png,a,x,y\n")
    assert [each.labels for each in csv_manifest.read(options).samples] == [("a",)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unlabelled": "keep"}, "keep needs task: multi_label"),
        ({"classes": ["a", "a"]}, "each name may stand once"),
        ({"label_columns": []}, "at least 1 item"),
    ],
)
def test_csv_manifest__options_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        csv_manifest.Options(csv=Path("list.csv"), **options)
