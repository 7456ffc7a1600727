"""CSV manifests: one class, a list, or a column for each class."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from kd.common.errors import UserError
from kd.data.sources import csv_manifest
from tests.data.layouts import draw_image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("cat/0", "dog/1", "fox/2"):
        draw_image(tmp_path / f"{name}.png")
    return tmp_path


def manifest(path: Path, text: str, **options: Any) -> csv_manifest.Options:
    path.write_bytes(text.encode(errors="surrogateescape"))
    return csv_manifest.Options(csv=path, **options)


def multi(path: Path, text: str, **options: Any) -> csv_manifest.Options:
    return manifest(path, text, task="multi_label", **options)


def test_csv_manifest__rows_are_samples(folder: Path) -> None:
    options = manifest(folder / "list.csv", "path,label,split\ncat/0.png,feline,train\ndog/1.png,canine,test\n")
    listing = csv_manifest.read(options)
    samples = listing.samples
    assert [(each.id, each.labels, each.split) for each in samples] == [
        ("cat/0.png", ("feline",), "train"),
        ("dog/1.png", ("canine",), "test"),
    ]
    assert samples[0].open().size == (12, 10)
    assert listing.classes is None
    without = manifest(folder / "short.csv", "path,label\ncat/0.png,feline\n")
    assert csv_manifest.read(without).samples[0].split is None
    assert csv_manifest.fingerprint(options) != csv_manifest.fingerprint(without)


def test_csv_manifest__of_a_multi_label_dataset_holds_lists(folder: Path) -> None:
    options = multi(folder / "list.csv", "path,label\ncat/0.png,tabby|feline|tabby\ndog/1.png, canine \n")
    assert [each.labels for each in csv_manifest.read(options).samples] == [("feline", "tabby"), ("canine",)]
    assert csv_manifest.read(options).classes is None
    listed = multi(folder / "list.csv", "path,label\ncat/0.png,feline\n", classes=["fox", "feline"])
    assert csv_manifest.read(listed).classes == ["feline", "fox"]
    assert csv_manifest.fingerprint(listed) != csv_manifest.fingerprint(listed.model_copy(update={"classes": None}))


def test_csv_manifest__rows_may_be_of_groups(folder: Path) -> None:
    text = ",path,label,patient\n0,cat/0.png,feline,eva\n1,dog/1.png,canine,\n2,fox/2.png,canine,eva\n"
    groups = [
        each.group for each in csv_manifest.read(manifest(folder / "l.csv", text, group_column="patient")).samples
    ]
    assert groups == ["eva", None, "eva"]
    assert {each.group for each in csv_manifest.read(manifest(folder / "l.csv", text)).samples} == {None}
    marked = "path,group,cat\ncat/0.png,1,0\ndog/1.png,0,1\n"
    assert csv_manifest.read(multi(folder / "m.csv", marked, label_columns="all")).classes == ["cat", "group"]
    of_groups = multi(folder / "m.csv", marked, label_columns="all", group_column="group", unlabelled="keep")
    assert csv_manifest.read(of_groups).classes == ["cat"]


def test_csv_manifest__a_file_has_one_group(folder: Path) -> None:
    text = "path,label,who\ncat/0.png,feline,\ndog/1.png,canine,eva\n./cat/0.png,feline,eva\n"
    with pytest.raises(UserError, match=r"line 4: the group of ./cat/0.png is 'eva', and that of the same file None"):
        csv_manifest.read(manifest(folder / "list.csv", text, group_column="who", duplicates="merge"))


def test_csv_manifest__fingerprint_follows_groups(folder: Path) -> None:
    rows = ["cat/0.png,feline,eva", "cat/0.png,feline,bob"]
    texts = [f"path,label,who\n{row}\ndog/1.png,canine,eva\n" for row in rows]
    found = [csv_manifest.fingerprint(manifest(folder / "l.csv", text, group_column="who")) for text in texts]
    assert found[0] != found[1]


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"group_column": "label"}, "label_column and group_column: column 'label' is named by both"),
        ({"label_columns": ["split", "x"]}, "split_column and label_columns: column 'split' is named by both"),
        ({"path_column": "x", "split_column": "x"}, "path_column and split_column: column 'x' is named by both"),
    ],
)
def test_csv_manifest__a_column_has_one_meaning(folder: Path, named: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        manifest(folder / "list.csv", "path,label\n", **named)


def test_csv_manifest__a_column_in_other_capitals_is_not_overlooked(folder: Path) -> None:
    text = "path,label,Split\ncat/0.png,feline,train\n"
    with pytest.raises(UserError, match=r"has a column 'Split', but no 'split'; say source.split_column: Split"):
        csv_manifest.read(manifest(folder / "list.csv", text))
    assert csv_manifest.read(manifest(folder / "list.csv", text, split_column="Split")).samples[0].split == "train"


@pytest.mark.parametrize("key", ["split_column", "group_column"])
def test_csv_manifest__a_column_that_a_key_names_is_there(folder: Path, key: str) -> None:
    with pytest.raises(UserError, match=r"has no column 'part'; its columns are \['path', 'label'\]"):
        csv_manifest.read(manifest(folder / "list.csv", "path,label\ncat/0.png,feline\n", **{key: "part"}))


COLUMNS = "path,cat,dog,split\ncat/0.png,1,1,train\ndog/1.png,0,1,val\nfox/2.png,0,0,test\n"


@pytest.mark.parametrize("chosen", ["all", ["cat", "dog"]])
def test_csv_manifest__or_a_column_of_zeros_and_ones_for_each_class(folder: Path, chosen: Any) -> None:
    options = multi(folder / "list.csv", COLUMNS, label_columns=chosen, unlabelled="keep")
    listing = csv_manifest.read(options)
    assert [(each.labels, each.split) for each in listing.samples] == [
        (("cat", "dog"), "train"),
        (("dog",), "val"),
        ((), "test"),
    ]
    assert listing.classes == ["cat", "dog"]


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
        ("path,label,split\ncat/0.png,a,holdout\n", "line 2: split is 'holdout', expected one of"),
        ("path,label,split\ncat/0.png,a,\n", "line 2: split is '', expected one of"),
        ("path,label,split\ncat/0.png,a\n", "line 2: has 2 fields, expected 3 as in the header"),
        ("path,label\ncat/0.png,a\n\ndog/1.png,cup, blue\n", "line 3: is empty"),
        (
            "path,label\ncat/0.png,a\ndog/1.png,cup, blue\n",
            "line 3: has 3 fields, expected 2 .*',' must stand in double",
        ),
        ('path,label\ncat/0.png,"a\nb"\ndog/1.png\n', "line 4: has 1 fields, expected 2"),
        (
            'path,label\ncat/0.png,"a\ndog/1.png,b\n',
            "line 2: is not CSV .a double quote opens a field, and none ends it",
        ),
        ('path,label\ncat/0.png,"a"b"\ndog/1.png,b\n', "line 2: is not CSV .',' expected after '\"'"),
        ('path,label\ncat/0.png,"' + "a\n" * 100_000, "line 2: is not CSV .a double quote opens a field"),
        ('path,label\ncat/0.png,\u00a0"a"\n', "line 2: is not CSV .white space of another kind ahead of a quote"),
        ("path,label\ncat/0.png,a\n , \ndog/1.png,b\n", "line 3: is empty"),
        ("\npath,label\ncat/0.png,a\n", "line 1: is empty"),
        ("", "list.csv: is empty, expected a header and rows"),
        ("path|label\ncat/0.png|a\n", r"has no column 'path'; its columns are \['path\|label'\]"),
        ("path,label\ncat/0.png,a\0\n", "list.csv: holds NUL bytes, so it is text in UTF-16, or no text"),
        ("path,label\ncat/0.png,a\ncat/0.png,b\n", "line 3: cat/0.png is listed twice"),
        ("path,label\ncat/0.png,a\n./cat/0.png,b\n", "line 3: ./cat/0.png is listed twice, first in .*2 as cat/0.png"),
        ("path,label\ncat/0.png,a\ndog/../cat//0.png,b\n", "line 3: dog/../cat//0.png is listed twice"),
        ("path,label,label\ncat/0.png,a,b\n", "list.csv: has 2 columns 'label', expected one"),
        ("path,label,split,split\ncat/0.png,a,train,test\n", "list.csv: has 2 columns 'split', expected one"),
        ("path,label\ncat/9.png,a\n", r"cat/9.png: no such image file \(1 of 1 are missing\)"),
        ("path,label\ncat/\udcff.png,a\n", "list.csv, line 2: is not text in UTF-8"),
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
        (
            "path,cat,\ncat/0.png,1,0\n",
            {"label_columns": "all"},
            "list.csv: column 3 has no name; expected that of a class",
        ),
        ("path,cat,cat\ncat/0.png,1,0\n", {"label_columns": "all"}, "list.csv: has 2 columns 'cat', expected one"),
        ("path,split\ncat/0.png,train\n", {"label_columns": "all"}, "has no column of a class; its columns are"),
        ("path,cat\ncat/0.png,1\n", {"label_columns": ["fox"]}, "has no column 'fox'; its columns are"),
    ],
)
def test_csv_manifest__mistakes_in_lists(folder: Path, text: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        csv_manifest.fingerprint(multi(folder / "list.csv", text, **options))


@pytest.mark.parametrize("blank", [" ", "\t", "\u00a0", "\u3000", "\ufeff", "\u200b", " \u00a0 \u200e"])
def test_csv_manifest__white_space_around_names_does_not_count(folder: Path, blank: str) -> None:
    rows = f"path{blank},{blank}label,split{blank}\ncat/0.png{blank},{blank}cup{blank}1{blank},{blank}train\n"
    options = manifest(folder / "list.csv", f"{blank}{rows}dog/1.png,cup{blank}1,test{blank}\n")
    expected = [("cat/0.png", (f"cup{blank}1",), "train"), ("dog/1.png", (f"cup{blank}1",), "test")]
    assert [(each.id, each.labels, each.split) for each in csv_manifest.read(options).samples] == expected
    named = options.model_dump() | {"classes": [f"{blank}cup{blank}1{blank}", "b"], "label_column": f"label{blank}"}
    assert csv_manifest.read(csv_manifest.Options(**named)).classes == ["b", f"cup{blank}1"]
    listed = multi(folder / "lists.csv", f"path,label\ncat/0.png,a{blank}|{blank}b\n")
    assert csv_manifest.read(listed).samples[0].labels == ("a", "b")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("quote", ["", '"'])
def test_csv_manifest__dialects(folder: Path, delimiter: str, newline: str, quote: str) -> None:
    lines = [("path", "label"), ("cat/0.png", "a"), ("dog/1.png", "b, c; d" if quote else "b")]
    text = newline.join(delimiter.join(f"{quote}{field}{quote}" for field in line) for line in lines)
    options = manifest(folder / "list.csv", text + newline * 3, label_separator=None)
    assert [each.labels for each in csv_manifest.read(options).samples] == [("a",), (lines[2][1],)]


@pytest.mark.parametrize(
    "words", [("Train", "Validation", "TEST"), ("training", "dev", "testing"), ("train", "Valid", "test")]
)
def test_csv_manifest__splits_have_many_words(folder: Path, words: tuple[str, ...]) -> None:
    rows = "".join(
        f"{path},a,{word}\n" for path, word in zip(("cat/0.png", "dog/1.png", "fox/2.png"), words, strict=True)
    )
    options = manifest(folder / "list.csv", f"path,label,split\n{rows}")
    assert [each.split for each in csv_manifest.read(options).samples] == ["train", "val", "test"]


@pytest.mark.parametrize(
    "text", ["path,label\ncat/0.png,a\n".encode(codec) for codec in ("utf-16", "utf-16-le", "utf-32")]
)
def test_csv_manifest__in_another_encoding_is_one_error(folder: Path, text: bytes) -> None:
    (folder / "list.csv").write_bytes(text)
    with pytest.raises(UserError, match=r"list.csv.*UTF-8"):
        csv_manifest.fingerprint(csv_manifest.Options(csv=folder / "list.csv"))


THREE = "path,label\ncat/0.png,{}\ndog/1.png,{}\nfox/2.png,{}\n"


@pytest.mark.parametrize(
    ("labels", "separator"),
    [
        (("cat|dog", "a", "b"), "|"),
        (("a", "cat; dog", "b"), ";"),
        (("cat, dog", "cat", "dog"), ","),
        (("a/b", "a", "b"), "/"),
    ],
)
def test_csv_manifest__asks_about_a_class_that_looks_like_several(
    folder: Path, labels: tuple[str, ...], separator: str
) -> None:
    text = THREE.format(*(f'"{label}"' for label in labels))
    odd = next(label for label in labels if separator in label)
    with pytest.raises(
        UserError, match=rf"label '{re.escape(odd)}' looks like several labels; .*task: multi_label"
    ) as asked:
        csv_manifest.fingerprint(manifest(folder / "list.csv", text))
    assert "say source.label_separator: null" in str(asked.value)
    one = manifest(folder / "list.csv", text, label_separator=None)
    assert [each.labels for each in csv_manifest.read(one).samples] == [(label,) for label in labels]
    listed = manifest(folder / "list.csv", text, classes=list(labels))
    assert [each.labels for each in csv_manifest.read(listed).samples] == [(label,) for label in labels]
    several = multi(folder / "list.csv", text, label_separator=separator)
    parts = {part.strip() for part in odd.split(separator)}
    assert set(next(each.labels for each in csv_manifest.read(several).samples if len(each.labels) > 1)) == parts


def test_csv_manifest__asks_about_lists_that_are_joined_otherwise(folder: Path) -> None:
    text = THREE.format("cat;dog", "cat", "a|b")
    with pytest.raises(
        UserError, match=r"line 2: label 'cat;dog' looks like .* say source.label_separator: ';'; if it"
    ):
        csv_manifest.read(multi(folder / "list.csv", text))
    with pytest.raises(UserError, match="label 'cat;dog' looks like several labels"):
        csv_manifest.read(manifest(folder / "list.csv", text.replace("a|b", "b"), label_separator=";"))


def test_csv_manifest__names_with_commas_and_slashes_are_names(folder: Path) -> None:
    labels = ["tench, Tinca tinca", "black/white", "black & tan"]
    options = manifest(folder / "list.csv", THREE.format(*(f'"{label}"' for label in labels)))
    assert [each.labels[0] for each in csv_manifest.read(options).samples] == labels


def test_csv_manifest__thousands_of_classes(folder: Path) -> None:
    names = [f"class {number}" for number in range(6000)]
    wide = multi(folder / "list.csv", f"path,{','.join(names)}\ncat/0.png{',1' * 6000}\n", label_columns="all")
    listing = csv_manifest.read(wide)
    assert len(listing.samples[0].labels) == len(listing.classes or ()) == 6000
    with pytest.raises(UserError, match="has no column 'nothing'; its columns are") as raised:
        csv_manifest.read(wide.model_copy(update={"label_columns": ["nothing"]}))
    assert len(str(raised.value)) < 500


def test_csv_manifest__missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a file"):
        csv_manifest.fingerprint(csv_manifest.Options(csv=tmp_path / "none.csv"))


def test_csv_manifest__duplicates_of_another_class_are_no_single_label(folder: Path) -> None:
    text = "path,label\ncat/0.png,a\ncat/0.png,{}\n"
    same = manifest(folder / "list.csv", text.format("a"), duplicates="merge")
    assert [each.labels for each in csv_manifest.read(same).samples] == [("a",)]
    with pytest.raises(UserError, match=r"line 2: labels are \['a', 'b'\], expected exactly one"):
        csv_manifest.read(manifest(folder / "list.csv", text.format("b"), duplicates="merge"))


def test_csv_manifest__a_image_is_the_same_however_its_path_is_written(folder: Path) -> None:
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
        ({"classes": ["a", "a"]}, "each may stand once"),
        ({"classes": ["a", " a\u00a0"]}, "each may stand once"),
        ({"classes": ["a", "\u200b"]}, "an empty name"),
        ({"path_column": " "}, "an empty name"),
        ({"label_columns": []}, "at least 1 item"),
    ],
)
def test_csv_manifest__options_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        csv_manifest.Options(csv=Path("list.csv"), **options)
