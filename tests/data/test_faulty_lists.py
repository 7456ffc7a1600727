"""Each fault of a list is an error that names it; or what the option says, counted and said in the log."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kd.common.errors import UserError
from kd.data.sources import coco, csv_manifest, nus_wide, voc
from kd.data.sources.base import Sample, load_source
from kd.data.sources.clean import read_lines
from tests.data.layouts import CONTENT, Content, make_coco, make_csv, make_nus_wide, make_voc


def voc_options(root: Path, content: Content, **options: Any) -> voc.Options:
    return voc.Options(root=make_voc(root, content), **options)


def coco_options(root: Path, content: Content, **options: Any) -> coco.Options:
    return coco.Options(root=make_coco(root, content), **options)


def nus_wide_options(root: Path, content: Content, **options: Any) -> nus_wide.Options:
    return nus_wide.Options(root=make_nus_wide(root, content), **options)


def csv_options(root: Path, content: Content, **options: Any) -> csv_manifest.Options:
    classes = ["cat", "dog", "person"]
    return csv_manifest.Options(csv=make_csv(root, content), task="multi_label", classes=classes, **options)


SOURCES: dict[str, Callable[..., Any]] = {
    "voc": voc_options,
    "coco": coco_options,
    "nus_wide": nus_wide_options,
    "csv_manifest": csv_options,
}
every_source = pytest.mark.parametrize("name", SOURCES)


def content_with(number: str, *listed: tuple[str, ...]) -> Content:
    """The usual content, but with other lines for one of its training images."""
    others = [row for row in CONTENT["train"] if row[0] != number]
    return {**CONTENT, "train": [*others, *((number, labels) for labels in listed)]}


def labels_of(samples: list[Sample], number: str) -> list[tuple[str, ...]]:
    return [sample.labels for sample in samples if number in sample.id]


def root_of(options: Any) -> Path:
    root: Path = options.csv.parent if isinstance(options, csv_manifest.Options) else options.root
    return root


def said(name: str, options: Any) -> tuple[list[Sample], str]:
    """Samples, and what is noted of them."""
    listing = load_source(name).read(options)
    return listing.samples, ", ".join(f"{what}: {count}" for what, count in listing.notes.items())


@every_source
def test_sound_lists__hold_every_image_and_nothing_is_said(tmp_path: Path, name: str) -> None:
    samples, line = said(name, SOURCES[name](tmp_path, CONTENT))
    assert line == ""
    assert len({sample.id for sample in samples}) == 5
    for split, rows in CONTENT.items():
        for number, labels in rows:
            (sample,) = (each for each in samples if number in each.id)
            assert (sample.split, sample.labels) == (split, labels)
            assert sample.open().size == (12, 10)


@every_source
def test_fingerprint__follows_labels_and_images(tmp_path: Path, name: str) -> None:
    source = load_source(name)
    options = SOURCES[name](tmp_path, CONTENT)
    before = source.fingerprint(options)
    assert source.fingerprint(options) == before
    SOURCES[name](tmp_path, content_with("000007", ("dog", "person")))
    labelled = source.fingerprint(options)
    (image,) = (path for path in tmp_path.rglob("*000009.*") if path.suffix != ".xml")
    image.touch()
    touched = source.fingerprint(options)
    image.unlink()
    gone = source.fingerprint(options.model_copy(update={"missing": "skip"}))
    assert len({str(each) for each in (before, labelled, touched, gone)}) == 4


@pytest.mark.parametrize("name", ["voc", "coco", "nus_wide"])
def test_fingerprint__names_a_folder_that_is_not_there(tmp_path: Path, name: str) -> None:
    options = SOURCES[name](tmp_path, CONTENT)
    folder = options.root / {"voc": "Annotations", "coco": "val2014", "nus_wide": "Flickr"}[name]
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=rf"source.root: {folder}: cannot be read \(No such file"):
        load_source(name).fingerprint(options)


@pytest.mark.parametrize("name", ["voc", "coco", "nus_wide"])
def test_fingerprint__leaves_out_hidden_files_and_follows_links(tmp_path: Path, name: str) -> None:
    options = SOURCES[name](tmp_path, CONTENT)
    before = load_source(name).fingerprint(options)
    folder = options.root / {"voc": "JPEGImages", "coco": "val2014", "nus_wide": "Flickr"}[name]
    (folder / ".DS_Store").write_text("")
    (folder / ".thumbnails").mkdir()
    (folder / ".thumbnails" / "1.jpg").write_text("")
    (folder / "nowhere.jpg").symlink_to(tmp_path / "nowhere.jpg")
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    assert load_source(name).fingerprint(options) == before


@every_source
def test_missing_files(tmp_path: Path, name: str) -> None:
    options = SOURCES[name](tmp_path, CONTENT)
    (image,) = (path for path in tmp_path.rglob("*000007.*") if path.suffix != ".xml")
    image.unlink()
    with pytest.raises(UserError, match=r"000007\.\w+: no such image file \(1 of 5 are missing\).*missing: skip"):
        load_source(name).read(options)
    skipping = options.model_copy(update={"missing": "skip"})
    samples, line = said(name, skipping)
    assert line == "missing images skipped: 1"
    assert labels_of(samples, "000007") == []


@every_source
def test_missing__links_to_nothing_and_folders_are_missing(tmp_path: Path, name: str) -> None:
    options = SOURCES[name](tmp_path, CONTENT)
    nowhere, itself, folder = (
        next(path for path in tmp_path.rglob(f"*{number}.*") if path.suffix != ".xml")
        for number in ("000007", "000009", "000001")
    )
    for path in (nowhere, itself, folder):
        path.unlink()
    nowhere.symlink_to(tmp_path / "nowhere.png")
    itself.symlink_to(itself)
    folder.mkdir()
    with pytest.raises(UserError, match=r"000007\.\w+: no such image file \(3 of 5 are missing\).*missing: skip"):
        load_source(name).read(options)
    samples, line = said(name, options.model_copy(update={"missing": "skip"}))
    assert line == "missing images skipped: 3"
    assert len(samples) == 2


@every_source
def test_lists__may_begin_with_a_byte_order_mark(tmp_path: Path, name: str) -> None:
    options = SOURCES[name](tmp_path, CONTENT)
    before = load_source(name).read(options).samples
    for path in tmp_path.rglob("*.*"):
        if path.suffix in (".txt", ".json", ".csv", ".xml"):
            path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    after = load_source(name).read(options).samples
    assert [(each.id, each.labels, each.split) for each in after] == [
        (each.id, each.labels, each.split) for each in before
    ]


@every_source
def test_unknown_labels(tmp_path: Path, name: str) -> None:
    options = SOURCES[name](tmp_path, content_with("000007", ("dog", "unicorn")))
    with pytest.raises(UserError, match=r"label '(unicorn|-1130179).*' is not one of the \d+ classes .*: ignore"):
        load_source(name).read(options)
    samples, line = said(name, options.model_copy(update={"unknown_labels": "ignore"}))
    assert line == "unknown labels ignored: 1"
    assert labels_of(samples, "000007") == [("dog",)]


@every_source
def test_unlabelled(tmp_path: Path, name: str) -> None:
    options = SOURCES[name](tmp_path, content_with("000007", ()))
    defaults = {"voc": "error", "coco": "drop", "nus_wide": "keep", "csv_manifest": "error"}
    assert options.unlabelled == defaults[name]
    with pytest.raises(UserError, match=r"000007.* has no label; .*source.unlabelled: drop"):
        load_source(name).read(options.model_copy(update={"unlabelled": "error"}))
    samples, line = said(name, options.model_copy(update={"unlabelled": "drop"}))
    assert line == "images without a label dropped: 1"
    assert labels_of(samples, "000007") == []
    samples, line = said(name, options.model_copy(update={"unlabelled": "keep"}))
    assert line == "images without a label kept: 1"
    assert labels_of(samples, "000007") == [()]


@every_source
def test_duplicates(tmp_path: Path, name: str) -> None:
    options = SOURCES[name](tmp_path, content_with("000007", ("dog",), ("cat", "dog")))
    with pytest.raises(UserError, match=r"000007.* is listed twice, first in .*source.duplicates: merge"):
        load_source(name).read(options)
    samples, line = said(name, options.model_copy(update={"duplicates": "merge"}))
    assert line == "duplicates merged: 1"
    assert labels_of(samples, "000007") == [("cat", "dog")]


@pytest.mark.parametrize("name", ["voc", "nus_wide", "csv_manifest"])
def test_duplicates__in_train_and_test_are_never_merged(tmp_path: Path, name: str) -> None:
    """In COCO, each split has a folder of its own."""
    content = {**CONTENT, "test": [*CONTENT["test"], CONTENT["train"][0]]}
    with pytest.raises(UserError, match=r"000005.* is listed for test, and for train in "):
        load_source(name).read(SOURCES[name](tmp_path, content, duplicates="merge"))


def test_faults__several_are_said_in_one_line(tmp_path: Path) -> None:
    rows = [("000005", ("cat",)), ("000005", ("dog",)), ("000007", ("unicorn",)), ("000009", ("dog",)), ("000010", ())]
    ignoring = {"missing": "skip", "unlabelled": "drop", "duplicates": "merge", "unknown_labels": "ignore"}
    options = csv_options(tmp_path, {"train": rows}, **ignoring)
    (tmp_path / "000009.png").unlink()
    samples, line = said("csv_manifest", options)
    assert line == (
        "duplicates merged: 1, unknown labels ignored: 1, images without a label dropped: 2, missing images skipped: 1"
    )
    assert [(sample.id, sample.labels) for sample in samples] == [("000005.png", ("cat", "dog"))]
    (tmp_path / "000005.png").unlink()
    with pytest.raises(UserError, match=r"no image is left of the list: .*missing images skipped: 2"):
        csv_manifest.read(options)


def test_read_lines__numbers_them_from_1(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("one\r\n two \n\n\n")
    assert read_lines(tmp_path / "list.txt") == [(1, "one"), (2, "two")]
    (tmp_path / "list.txt").write_text("one\n\ntwo\n")
    with pytest.raises(UserError, match="line 2: is empty"):
        read_lines(tmp_path / "list.txt")
    (tmp_path / "list.txt").write_text("\ufeff\u00a0one\u200b\r two\u3000\n\u00a0\n")
    assert read_lines(tmp_path / "list.txt") == [(1, "one"), (2, "two")]
    for text in ("one".encode("utf-16"), b"one\n\0"):
        (tmp_path / "list.txt").write_bytes(text)
        with pytest.raises(UserError, match=r"list.txt: holds NUL bytes.*save it as UTF-8"):
            read_lines(tmp_path / "list.txt")
    (tmp_path / "list.txt").write_bytes(b"one\n\xff")
    with pytest.raises(UserError, match=r"list.txt, line 2: is not text in UTF-8"):
        read_lines(tmp_path / "list.txt")
    with pytest.raises(UserError, match=r"source.root: .*none.txt: cannot be read \(No such file"):
        read_lines(tmp_path / "none.txt")
