"""Shards of tar files: which members are one sample, what a label means, and what is refused."""

from __future__ import annotations

import gzip
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from kd.common.errors import UserError
from kd.data.options import SplitOptions
from kd.data.packed import open_split, read_info
from kd.data.sources import webdataset
from kd.data.sources.base import Listing
from kd.data.sources.files import SPECIAL
from tests.data.named_layouts import add_member, image_bytes, make_tar, pack_source, pixels, write

Members = dict[str, bytes | str]


def shard(labels: dict[str, str], label: str = "cls", image: str = "png") -> Members:
    """Image and label of each key; the images are those of their places."""
    found: Members = {}
    for seed, (key, text) in enumerate(labels.items()):
        found |= {f"{key}.{image}": image_bytes(seed), f"{key}.{label}": text}
    return found


def read(shards: Any, **options: Any) -> Listing:
    return webdataset.read(webdataset.Options(shards=shards, **options))


def rows(listing: Listing) -> list[tuple[str, tuple[str, ...], str | None]]:
    return [(each.id, each.labels, each.split) for each in listing.samples]


def labels_of(root: Path, text: str, **options: Any) -> tuple[str, ...]:
    """Labels of the first of two samples."""
    label = options.get("label", "cls")
    file = make_tar(root / "a.tar", shard({"0": text, "1": "1" if "json" not in label.lower() else text}, label))
    return read(str(file), **options).samples[0].labels


def test_webdataset__members_of_a_name_up_to_the_first_dot_are_a_sample(tmp_path: Path) -> None:
    members: Members = {
        "__index__/0.png": image_bytes(9),
        "./a.b/0001.JPG": image_bytes(1, "JPEG"),
        "./a.b/0001.cls": "3\n",
        "./a.b/0001.seg.png": image_bytes(8),
        "a.b/0001.json": "{}",
        "0001.cls": " cat ",
        "README": "no dot",
        ".hidden.png": "no key",
        "0001.png": image_bytes(2),
    }
    listing = read(str(make_tar(tmp_path / "s.tar", members)))
    assert rows(listing) == [("s.tar/a.b/0001", ("3",), None), ("s.tar/0001", ("cat",), None)]
    assert np.array_equal(np.asarray(listing.samples[1].open()), pixels(2))
    assert listing.samples[0].open().size == (12, 10)
    assert listing.classes is None
    assert listing.notes == {
        webdataset.NAMELESS: 3,
        "members that are neither image nor label left out (.seg.png)": 1,
        "members that are neither image nor label left out (.json)": 1,
    }


def test_webdataset__shards_are_a_range_or_a_pattern_or_one_for_each_split(tmp_path: Path) -> None:
    for number in range(3):
        make_tar(tmp_path / f"train/{number:03d}.tar", shard({"0": "1", "1": "2"}))
    make_tar(tmp_path / "val-0.tar", shard({"0": "1"}))
    some = read(f"{tmp_path}/train/{{001..002}}.tar")
    assert [each.id for each in some.samples] == ["001.tar/0", "001.tar/1", "002.tar/0", "002.tar/1"]
    make_tar(tmp_path / "[0].tar", shard({"0": "1"}))
    assert [each.id for each in read(f"{tmp_path}/[0].tar").samples] == ["[0].tar/0"]
    assert [each.id for each in read(f"{tmp_path}/train/*[02].tar").samples] == [
        *("000.tar/0", "000.tar/1", "002.tar/0", "002.tar/1")
    ]
    splits = read({"train": f"{tmp_path}/train/{{000..000}}.tar", "val": f"{tmp_path}/val-0.tar"})
    assert rows(splits) == [
        ("train/000.tar/0", ("1",), "train"),
        ("train/000.tar/1", ("2",), "train"),
        ("val-0.tar/0", ("1",), "val"),
    ]


def test_webdataset__fingerprint_follows_shards_and_classes(tmp_path: Path) -> None:
    file = make_tar(tmp_path / "a.tar", shard({"0": "1"}))
    names = write(tmp_path / "names.txt", "cat\ndog\n")
    options = webdataset.Options(shards=str(file), classes=names)
    before = webdataset.fingerprint(options)
    write(names, "dog\ncat\n")
    changed = webdataset.fingerprint(options)
    os.utime(file, (1, 1))
    assert before != changed != webdataset.fingerprint(options)


@pytest.mark.parametrize(
    ("text", "options", "labels"),
    [
        ("7", {}, ("7",)),
        ("007\n", {}, ("7",)),
        ("golden retriever", {}, ("golden retriever",)),
        ("\ufeffcat", {}, ("cat",)),
        ("1", {"classes": ["zebra", "cat"]}, ("cat",)),
        ("zebra", {"classes": ["zebra", "cat"]}, ("zebra",)),
        ("10", {"classes": ["10", "1", "0"]}, ("10",)),
        ("a|b", {"classes": ["a|b", "1"]}, ("a|b",)),
        ("[1]", {}, ("1",)),
        ("x", {"label": "txt", "classes": ["1", "x"]}, ("x",)),
        ('{"label": 1, "url": "…"}', {"label": "json", "label_field": "label"}, ("1",)),
        ('{"name": "cat"}', {"label": "JSON", "label_field": "name"}, ("cat",)),
        ("2|0", {"task": "multi_label"}, ("0", "2")),
        ("cat", {"task": "multi_label"}, ("cat",)),
        ("dog | cat", {"task": "multi_label", "classes": ["1", "cat", "dog"]}, ("cat", "dog")),
        ("[2, 0]", {"task": "multi_label", "classes": ["x", "y", "z"]}, ("x", "z")),
        ('["x", "a, b"]', {"task": "multi_label"}, ("a, b", "x")),
        ('{"tags": ["z", "x"]}', {"task": "multi_label", "label": "json", "label_field": "tags"}, ("x", "z")),
        ('{"tags": []}', {"task": "multi_label", "label": "json", "label_field": "tags", "unlabelled": "keep"}, ()),
        ("", {"task": "multi_label", "unlabelled": "keep"}, ()),
    ],
)
def test_webdataset__labels(tmp_path: Path, text: str, options: dict[str, Any], labels: tuple[str, ...]) -> None:
    assert labels_of(tmp_path, text, **options) == labels


def test_webdataset__the_class_list_is_that_of_the_option(tmp_path: Path) -> None:
    names = write(tmp_path / "names.txt", "zebra\r\ncat\r\n\r\n")
    file = make_tar(tmp_path / "a.tar", shard({"0": "0", "1": "1"}))
    listing = read(str(file), classes=names)
    assert [each.labels for each in listing.samples] == [("zebra",), ("cat",)]
    assert listing.classes == ["cat", "zebra"]


def test_webdataset__what_lacks_an_image_or_a_label_is_counted(tmp_path: Path) -> None:
    members = shard({"0": "1", "1": "2", "4": " "}) | {"2.cls": "1", "3.png": image_bytes(3)}
    file = str(make_tar(tmp_path / "a.tar", members))
    with pytest.raises(UserError, match=r"a.tar: 2: has a label, but no member with an ending of an image; or say"):
        read(file, unlabelled="drop")
    with pytest.raises(UserError, match=r"a.tar: 4: has no class in a member .cls; give it one, or say"):
        read(file, missing="skip")
    listing = read(file, missing="skip", unlabelled="drop")
    assert [each.id for each in listing.samples] == ["a.tar/0", "a.tar/1"]
    assert listing.notes == {webdataset.NO_IMAGE: 1, "samples without a label dropped": 2}
    kept = read(file, missing="skip", unlabelled="keep", task="multi_label")
    assert [each.labels for each in kept.samples] == [("1",), ("2",), (), ()]
    assert kept.notes == {webdataset.NO_IMAGE: 1, "samples without a label kept": 2}


def test_webdataset__endings_of_images_may_be_given(tmp_path: Path) -> None:
    members = shard({"0": "1", "1": "2"}, image="left.jpg") | shard({"0": "1", "1": "2"}, image="right.jpg")
    file = str(make_tar(tmp_path / "a.tar", members))
    listing = read(file, image=[".Right.jpg"])
    assert len(listing.samples) == 2
    assert listing.notes == {"members that are neither image nor label left out (.left.jpg)": 2}
    with pytest.raises(UserError, match=r"a.tar: 0: has several images, \['left.jpg', 'right.jpg'\]; say source.image"):
        read(file, image=["left.jpg", "right.jpg"])
    with pytest.raises(UserError, match=r"a.tar: 0: has a label, but no .* ending of source.image, \['png'\]"):
        read(file, image=["png"])


def test_webdataset__links_and_devices_are_left_out_and_counted(tmp_path: Path) -> None:
    file = make_tar(tmp_path / "a.tar", shard({"0": "1"}))
    with tarfile.open(file, "a") as stream:
        add_member(stream, "1.png", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add_member(stream, "2.png", type=tarfile.FIFOTYPE)
        add_member(stream, "folder", type=tarfile.DIRTYPE)
    assert read(str(file)).notes == {webdataset.LINKS: 1, SPECIAL: 1}


def one(root: Path, text: str = "1", label: str = "cls") -> str:
    return str(make_tar(root / "a.tar", shard({"0": text}, label)))


def twice(root: Path) -> str:
    file = one(root)
    with tarfile.open(file, "a") as stream:
        add_member(stream, "./0.PNG", image_bytes(9))
    return file


def compressed(root: Path) -> str:
    return str(write(root / "a.tar", gzip.compress(Path(one(root)).read_bytes())))


def cut(root: Path) -> str:
    return str(write(root / "a.tar", Path(one(root)).read_bytes()[:700]))


def labelled(text: str | bytes, label: str = "cls") -> Callable[[Path], str]:
    content = text if isinstance(text, bytes) else text.encode()
    return lambda root: str(make_tar(root / "a.tar", {"0.png": image_bytes(0), f"0.{label}": content}))


JSON = {"label": "json", "label_field": "label"}
MULTI = {"task": "multi_label"}
FAULTS: dict[str, tuple[Callable[[Path], Any], dict[str, Any], str]] = {
    "missing": (
        lambda root: f"{root}/{{00..02}}.tar",
        {},
        r"source.shards: .*/00.tar is not a file; expected an archive$",
    ),
    "no match": (lambda root: f"{root}/*.tar", {}, r"source.shards: no file is called .*/\*.tar$"),
    "two ranges": (lambda _: "{0..1}/{0..1}.tar", {}, "source.shards: .*: expected at most one range of numbers"),
    "other braces": (lambda _: {"train": "{a,b}.tar"}, {}, "source.shards.train: .*: expected at most one range"),
    "backwards": (lambda _: "{3..1}.tar", {}, "source.shards: .*: the range ends before it begins$"),
    "twice named": (lambda root: {"train": one(root), "val": one(root)}, {}, "source.shards: .*a.tar is named twice"),
    "compressed": (compressed, {}, "source.shards: .*a.tar is a gzip file; expected a plain tar file$"),
    "cut": (cut, {}, r"a.tar: (cannot be unpacked \(unexpected end of data\)|is cut short)"),
    "no tar": (lambda root: str(write(root / "a.tar", "x" * 600)), {}, "source.shards: .*a.tar: is no archive that"),
    "nothing": (labelled("", "csv"), {"image": ["jpg"]}, r"source.shards: hold no sample; .*csv\): 1$"),
    "twice": (twice, {}, "a.tar: 0.PNG: is there twice; expected each key once in a shard$"),
    "no label": (labelled("", "txt"), {}, r"a.tar: 0: has no class in a member .cls; give it one, or say source.unl"),
    "empty label": (labelled(" \n"), {}, "a.tar: 0: has no class in a member .cls; "),
    "no text": (labelled(b"\xff\xfe1"), {}, "a.tar: 0.cls: is not text in UTF-8"),
    "negative": (labelled("-1"), {}, "a.tar: 0.cls: is -1, which is no class; expected 0 or more, or a name$"),
    "bar": (
        labelled("cat|dog"),
        {},
        r"0.cls: is 'cat\|dog', which looks like several classes; say task: multi_label, or",
    ),
    "numbers": (labelled("1 2"), {}, "0.cls: is '1 2', which looks like several classes; say task: multi_label"),
    "lines": (labelled("cat\ndog"), MULTI, r"0.cls: is 'cat dog', which looks like several classes; join them by '\|'"),
    "commas": (labelled("cat, dog"), MULTI, "0.cls: is 'cat, dog', which looks like several classes; join"),
    "several": (labelled("[1, 2]"), {}, r"0.cls: holds 2 classes, expected one \(task: single_label\)$"),
    "vector": (
        labelled("[0, 1, 0]"),
        MULTI,
        "0.cls: holds the class '0' twice; expected a list of classes, not 0 or 1",
    ),
    "half": (labelled("[0.5]"), {}, "0.cls: is '0.5', expected the number or name of a class$"),
    "true": (labelled("[true]"), {}, "0.cls: is 'True', expected the number or name of a class$"),
    "too many": (
        labelled("3"),
        {"classes": ["a", "b"]},
        "0.cls: is 3, expected 0 to 1, the places in source.classes$",
    ),
    "not listed": (
        labelled("c"),
        {"classes": ["a", "b"]},
        r"0.cls: is 'c', which is not one of the 2 classes \['a', 'b'\] \(source.classes\)$",
    ),
    "place or name": (labelled("2"), {"classes": ["1", "0", "3"]}, "0.cls: is '2', which is not one of the 3 classes"),
    "no json": (labelled("{", "json"), JSON, "a.tar: 0.json: is not JSON "),
    "deep json": (labelled("[" * 100_000, "json"), JSON, "a.tar: 0.json: is not JSON "),
    "other json": (labelled("5", "json"), JSON, "a.tar: 0.json: is 5, expected an object in JSON$"),
    "no field": (
        labelled('{"b": 1, "a": 2}', "json"),
        JSON,
        r"0.json: has no field 'label' \(source.label_field\); its fields are \['a', 'b'\]$",
    ),
    "object": (labelled('{"label": {}}', "json"), JSON, "0.json: is '{}', expected the number or name of a class$"),
    "null": (labelled('{"label": null}', "json"), JSON, "a.tar: 0: has no class in a member .json; "),
    "no classes": (one, {"classes": Path("none.txt")}, "source.classes: none.txt: cannot be read"),
    "classes twice": (one, {"classes": ["a", "b", "a"]}, "source.classes: 'a' stands twice; expected each class once$"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_webdataset__faults(tmp_path: Path, fault: str) -> None:
    make, options, said = FAULTS[fault]
    with pytest.raises(UserError, match=said) as raised:
        read(make(tmp_path), **options)
    assert len(str(raised.value).splitlines()) == 1
    assert len(str(raised.value)) < 1000


def test_webdataset__a_list_of_classes_has_no_empty_line(tmp_path: Path) -> None:
    for text, line in (("a\n\nb\n", 2), ("\n", 1)):
        names = write(tmp_path / "names.txt", text)
        with pytest.raises(UserError, match=rf"source.classes: .*names.txt, line {line}: is empty; expected a class$"):
            read(one(tmp_path), classes=names)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"label": "json"}, "label: json needs label_field"),
        ({"unlabelled": "keep"}, "unlabelled: keep needs task: multi_label"),
        ({"shards": {"test": "a.tar"}}, "shards: has no train"),
        ({"shards": ["a.tar"]}, "expected a path such as DIR/train"),
        ({"classes": 5}, "expected a file with a class in each line, or a list of classes"),
    ],
)
def test_webdataset__options(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        webdataset.Options(**{"shards": "a.tar", **options})


def test_webdataset__an_image_that_is_damaged_is_named(tmp_path: Path) -> None:
    file = make_tar(tmp_path / "a.tar", {"0.png": b"no image", "0.cls": "1"})
    with pytest.raises(UserError, match=r"a.tar: 0.png: is not an image that can be decoded$"):
        read(str(file)).samples[0].open()


def test_webdataset__is_packed_with_several_labels(tmp_path: Path) -> None:
    for number in range(3):
        labels = {f"{key:03d}": json.dumps({"tags": [key % 3, 3]}) for key in range(10)}
        make_tar(tmp_path / f"{number}.tar", shard(labels, "json"))
    source = {
        "type": "webdataset",
        "shards": f"{tmp_path}/{{0..2}}.tar",
        "label": "json",
        "label_field": "tags",
        "classes": ["ant", "bee", "cat", "insect"],
    }
    pack_source(tmp_path / "packed", source, "multi_label", SplitOptions(val=6, test=6))
    assert read_info(tmp_path / "packed").classes == ("ant", "bee", "cat", "insect")
    train = open_split(tmp_path / "packed", "train")
    assert train.labels.shape == (18, 4)
    assert train.labels[:, 3].all()
    assert (train.labels.sum(axis=1) == 2).all()
