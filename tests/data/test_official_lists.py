"""Lists of Tiny ImageNet, Flowers, CUB and Pets: what is wrong with one is one line that names it."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import scipy.sparse

from kd.common.errors import UserError
from kd.data.sources.official import UNLISTED
from tests.data.official_layouts import FLOWERS, MAKERS, WNIDS, make_flowers102, write_mat
from tests.data.test_official_images import digest, read, rows, said


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


LISTS = {
    "tiny_imagenet": "val/val_annotations.txt",
    "cub200": "images.txt",
    "oxford_pets": "annotations/trainval.txt",
}


@pytest.mark.parametrize("name", LISTS)
def test_lists__of_any_line_ends_and_with_a_byte_order_mark(tmp_path: Path, name: str) -> None:
    folder = MAKERS[name](tmp_path)
    before = rows(read(name, folder))
    for file in folder.rglob("*.txt"):
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n") + b"\r\n\r\n")
    assert rows(read(name, folder)) == before


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1: is empty"),
        (b"\n\n1 2\n", "line 1: is empty"),
        (b"\x89PNG\0\0", "holds NUL bytes"),
        (b"caf\xe9\n", "line 1: is not text in UTF-8"),
        (b"<html>not found</html>\n", "line 1: "),
    ],
)
def test_lists__that_are_none(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    folder = MAKERS[name](tmp_path)
    file = folder / LISTS[name]
    file.write_bytes(content)
    assert said(name, folder).startswith(f"{file}")
    assert message in said(name, folder)


@pytest.mark.parametrize(
    ("name", "file"),
    [("tiny_imagenet", "wnids.txt"), ("cub200", "images.txt"), ("cub200", "train_test_split.txt")],
)
def test_lists__that_are_not_there(tmp_path: Path, name: str, file: str) -> None:
    folder = MAKERS[name](tmp_path)
    (folder / file).unlink()
    assert said(name, folder) == f"source.root: {folder / file}: cannot be read (No such file or directory)"
    with pytest.raises(UserError, match=f"{file}: cannot be read"):
        digest(name, folder)


FAULTS: dict[str, tuple[str, str, str, str, str]] = {
    "tiny: fields": (
        *("tiny_imagenet", LISTS["tiny_imagenet"], "val_2.JPEG\tn01443537\t0", "val_2.JPEG n01443537\t0"),
        "val_annotations.txt, line 3: has 5 fields between tabs, expected 6",
    ),
    "tiny: class": (
        *("tiny_imagenet", LISTS["tiny_imagenet"], "val_2.JPEG\tn01443537", "val_2.JPEG\tn99999999"),
        "val_annotations.txt, line 3: class is 'n99999999', which wnids.txt does not list",
    ),
    "tiny: missing": (
        *("tiny_imagenet", LISTS["tiny_imagenet"], "val_2.JPEG", "val_9.JPEG"),
        "val_annotations.txt, line 3: {folder}/val/images/val_9.JPEG: no such image file (1 of 6 are missing); get",
    ),
    "tiny: twice": (
        *("tiny_imagenet", LISTS["tiny_imagenet"], "val_2.JPEG", "val_1.JPEG"),
        "line 3: val/images/val_1.JPEG is listed twice, first in {folder}/val/val_annotations.txt, line 2; remove one",
    ),
    "tiny: list of classes": (
        *("tiny_imagenet", "wnids.txt", f"{WNIDS[0]}\n", ""),
        f"train/{WNIDS[0]}: is a folder of a class that wnids.txt does not list",
    ),
    "cub: fields": (
        *("cub200", "images.txt", "3 108.", "3 108 ."),
        "_0003_85003.jpg', expected a number and one field after it",
    ),
    "cub: number": ("cub200", "images.txt", "3 108.", "x 108.", "images.txt, line 3: is 'x 108."),
    "cub: number twice": (
        *("cub200", "images.txt", "3 108.", "2 108."),
        "images.txt, line 3: number 2 stands twice, first in {folder}/images.txt, line 2",
    ),
    "cub: folder": (
        *("cub200", "images.txt", "3 108.White_necked_Raven", "3 White_necked_Raven"),
        "images.txt, line 3: folder 'White_necked_Raven' is not that of a class, expected one such as 001.Black_footed",
    ),
    "cub: no folder": (
        *("cub200", "images.txt", "3 108.White_necked_Raven/", "3 108."),
        "images.txt, line 3: path is '108.White_Necked_Raven_0003_85003.jpg', expected FOLDER/NAME.jpg",
    ),
    "cub: deep": (
        *("cub200", "images.txt", "3 108.White_necked_Raven/", "3 108.White_necked_Raven/x/"),
        "images.txt, line 3: path is '108.White_necked_Raven/x/White",
    ),
    "cub: file": (
        *("cub200", "images.txt", "0003_85003", "0003_99999"),
        "images.txt, line 3: {folder}/images/108.White_necked_Raven/White_Necked_Raven_0003_99999.jpg: no such image",
    ),
    "cub: split": (
        *("cub200", "train_test_split.txt", "3 1", "3 2"),
        "train_test_split.txt, line 3: has 2 for image 3, expected 1 (train) or 0 (test)",
    ),
    "cub: no split": (
        *("cub200", "train_test_split.txt", "3 1\n", ""),
        "train_test_split.txt: has nothing for image 3, expected 1 (train) or 0 (test)",
    ),
    "cub: class": (
        *("cub200", "image_class_labels.txt", "3 108", "3 100"),
        "image_class_labels.txt, line 3: image 3 is of class 100 (100.Brown_Pelican), but lies in 108.White_necked",
    ),
    "cub: unknown class": (
        *("cub200", "image_class_labels.txt", "3 108", "3 7"),
        "image_class_labels.txt, line 3: image 3 is of class 7 (no class that classes.txt has), but lies in 108.",
    ),
    "cub: no class": (
        *("cub200", "image_class_labels.txt", "3 108\n", ""),
        "images.txt, line 3: image 3 is of class no number (no class that classes.txt has), but lies in 108.",
    ),
    "pets: fields": (
        *("oxford_pets", LISTS["oxford_pets"], "Abyssinian_2 1 1 1", "Abyssinian_2 1 1"),
        "trainval.txt, line 2: has 3 fields, expected 4, such as Abyssinian_100 1 1 1",
    ),
    "pets: name": (
        *("oxford_pets", LISTS["oxford_pets"], "Abyssinian_2 ", "Abyssinian "),
        "trainval.txt, line 2: image is called 'Abyssinian', expected a breed and a number, such as Abyssinian_1",
    ),
    "pets: path": (
        *("oxford_pets", LISTS["oxford_pets"], "Abyssinian_2 ", "../Abyssinian_2 "),
        "trainval.txt, line 2: image is called '../Abyssinian_2', expected a breed",
    ),
    "pets: breed": (
        *("oxford_pets", LISTS["oxford_pets"], "american_bulldog_1 2", "american_bulldog_1 1"),
        "trainval.txt, line 4: breed 1 is american_bulldog by the name of the image, but Abyssinian further up",
    ),
    "pets: file": (
        *("oxford_pets", LISTS["oxford_pets"], "Abyssinian_2 ", "Abyssinian_77 "),
        "trainval.txt, line 2: {folder}/images/Abyssinian_77.jpg: no such image file (1 of 15 are missing)",
    ),
    "pets: both lists": (
        *("oxford_pets", LISTS["oxford_pets"], "Abyssinian_2 ", "Abyssinian_4 "),
        "test.txt, line 1: Abyssinian_4.jpg is listed for test, and for train in {folder}/annotations/trainval.txt",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_lists__faults(tmp_path: Path, fault: str) -> None:
    name, file, old, new, message = FAULTS[fault]
    folder = MAKERS[name](tmp_path)
    edit(folder / file, old, new)
    assert message.format(folder=folder) in said(name, folder)


GONE = {"tiny_imagenet": "val_1.*", "cub200": "*_0003_*", "oxford_pets": "Bombay_2.*", "flowers102": "*_00003.*"}


@pytest.mark.parametrize("name", GONE)
def test_missing__may_be_skipped(tmp_path: Path, name: str) -> None:
    folder = MAKERS[name](tmp_path)
    before = rows(read(name, folder))
    (file,) = folder.rglob(GONE[name])
    file.unlink()
    assert "source.missing: skip" in said(name, folder)
    listing = read(name, folder, missing="skip")
    assert rows(listing) == [row for row in before if not row[0].endswith(file.name)]
    assert listing.notes["missing images skipped"] == 1


def test_duplicates__may_be_merged(tmp_path: Path) -> None:
    folder = MAKERS["tiny_imagenet"](tmp_path)
    before = rows(read("tiny_imagenet", folder))
    file = folder / LISTS["tiny_imagenet"]
    edit(file, "val_0", f"{file.read_text().splitlines()[0]}\nval_0")
    assert "source.duplicates: merge" in said("tiny_imagenet", folder)
    listing = read("tiny_imagenet", folder, duplicates="merge")
    assert (rows(listing), listing.notes["duplicates merged"]) == (before, 1)


def test_oxford_pets__list_with_comments_and_lists_that_are_not_there(tmp_path: Path) -> None:
    folder = MAKERS["oxford_pets"](tmp_path)
    before = rows(read("oxford_pets", folder))
    edit(folder / LISTS["oxford_pets"], "Abyssinian_1", "#Image CLASS-ID SPECIES BREED ID\nAbyssinian_1")
    assert rows(read("oxford_pets", folder)) == before
    (folder / "annotations" / "test.txt").unlink()
    listing = read("oxford_pets", folder)
    assert rows(listing) == [row for row in before if row[2] == "train"]
    assert listing.notes["lists that are not there (test.txt)"] == 1
    assert listing.notes[UNLISTED] == 9
    (folder / "annotations" / "trainval.txt").unlink()
    assert said("oxford_pets", folder).endswith("trainval.txt: cannot be read (No such file or directory)")
    assert len(read("oxford_pets", folder, protocol="mlfd").samples) == 18


def test_oxford_pets__mlfd_takes_every_image_and_says_which_is_none(tmp_path: Path) -> None:
    folder = MAKERS["oxford_pets"](tmp_path)
    (folder / "images" / "deep").mkdir()
    (folder / "images" / "deep" / "Bombay_1.jpg").write_bytes(b"")
    listing = read("oxford_pets", folder, protocol="mlfd")
    assert listing.notes["images in further folders left out"] == 1
    (folder / "images" / "Bombay.jpg").write_bytes(b"")
    assert said("oxford_pets", folder, protocol="mlfd") == (
        f"{folder}/images/Bombay.jpg: image is called 'Bombay', expected a breed and a number, such as Abyssinian_1"
    )


ROW = np.array([[1, 60, 102] * 4], np.uint8)
MAT: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "garbage": (
        "setid.mat",
        lambda file: file.write_bytes(b"garbage" * 99),
        "is no file of MATLAB 5 that can be read (",
    ),
    "empty": ("setid.mat", lambda file: file.write_bytes(b""), "is no file of MATLAB 5 that can be read ("),
    "page": (
        "imagelabels.mat",
        lambda file: file.write_text("<html>\n404\n</html>\n"),
        "is no file of MATLAB 5 that can",
    ),
    "cut": (
        *("setid.mat", lambda file: file.write_bytes(file.read_bytes()[:-40])),
        "is no file of MATLAB 5 that can be read (",
    ),
    "version 7.3": (
        *(
            "setid.mat",
            lambda file: file.write_bytes(b"MATLAB 7.3".ljust(124) + b"\0\2IM" + b"\x89HDF" * 99),
        ),
        "is no file of MATLAB 5 that can be read (its first 128 bytes are not those of one)",
    ),
    "gone": ("imagelabels.mat", lambda file: file.unlink(), "cannot be read (No such file or directory)"),
    "no labels": ("imagelabels.mat", lambda file: write_mat(file, label=ROW), "holds no labels; it holds ['label']"),
    "no tstid": (
        *("setid.mat", lambda file: write_mat(file, trnid=ROW, valid=ROW)),
        "holds no tstid; it holds ['trnid', 'valid']",
    ),
    "shape": (
        *("imagelabels.mat", lambda file: write_mat(file, labels=ROW.reshape(3, 4))),
        "labels has shape (3, 4), expected one row of whole numbers",
    ),
    "type": (
        *("imagelabels.mat", lambda file: write_mat(file, labels=ROW / 2)),
        "labels has shape (1, 12), expected one row of whole numbers",
    ),
    "text": (
        *("imagelabels.mat", lambda file: write_mat(file, labels="roses")),
        "labels has shape (1, 5), expected one row of whole numbers",
    ),
    "no label": (
        *("imagelabels.mat", lambda file: write_mat(file, labels=ROW - 1)),
        "labels: image 1 has 0, expected 1 to 102",
    ),
    "fewer labels": (
        *("imagelabels.mat", lambda file: write_mat(file, labels=ROW[:, :11])),
        "setid.mat: trnid, number 4: is image 12, expected 1 to 11, which have labels",
    ),
    "no image": (
        *("setid.mat", lambda file: write_mat(file, **{key: np.array([ids]) - 1 for key, ids in FLOWERS.items()})),
        "setid.mat: trnid, number 2: is image 0, expected 1 to 12, which have labels",
    ),
    "twice": (
        *("setid.mat", lambda file: write_mat(file, trnid=[[1, 3, 1]], valid=[[2]], tstid=[[4]])),
        "setid.mat: trnid, number 3: image_00001.jpg is listed twice, first in {file}: trnid, number 1; remove one",
    ),
    "in two splits": (
        *("setid.mat", lambda file: write_mat(file, trnid=[[1, 3]], valid=[[2]], tstid=[[3]])),
        "setid.mat: tstid, number 1: image_00003.jpg is listed twice, first in {file}: trnid, number 2",
    ),
}


@pytest.mark.parametrize("fault", MAT)
def test_flowers102__faults_of_files_of_matlab(tmp_path: Path, fault: str) -> None:
    root = make_flowers102(tmp_path)
    name, spoil, message = MAT[fault]
    spoil(root / name)
    assert message.format(file=root / name) in said("flowers102", root)
    assert str(root) in said("flowers102", root)


@pytest.mark.parametrize("kind", ["u1", "i2", "u4", "i8", "f4", "f8"])
@pytest.mark.parametrize("compressed", [True, False])
def test_flowers102__files_of_matlab_with_numbers_of_any_type(tmp_path: Path, kind: str, *, compressed: bool) -> None:
    """Also in a column, and with what else MATLAB may store beside them."""
    root = make_flowers102(tmp_path)
    before = rows(read("flowers102", root))
    others = {"text": "roses", "cells": np.array([1, "a"], dtype=object), "record": {"a": 1}, "empty": np.zeros((0, 0))}
    others |= {"sparse": scipy.sparse.eye_array(3, format="csc"), "complex": np.array([1j])}
    content = others | {"labels": ROW.T.astype(kind)}
    scipy.io.savemat(root / "imagelabels.mat", content, do_compression=compressed)
    assert rows(read("flowers102", root)) == before


def test_flowers102__files_of_matlab_from_other_machines(tmp_path: Path) -> None:
    """With the highest byte of a number first."""
    root = make_flowers102(tmp_path)
    before = rows(read("flowers102", root))
    flags = struct.pack(">IIII", 6, 8, 9, 0)
    shape, name = struct.pack(">IIii", 5, 8, 1, 12), struct.pack(">II6sxx", 1, 6, b"labels")
    values = struct.pack(">II12H", 4, 24, *ROW[0])
    matrix = flags + shape + name + values
    header = b"MATLAB 5.0 MAT-file".ljust(124) + b"\1\0MI"
    (root / "imagelabels.mat").write_bytes(header + struct.pack(">II", 14, len(matrix)) + matrix)
    assert scipy.io.loadmat(root / "imagelabels.mat")["labels"].tolist() == ROW.tolist()
    assert rows(read("flowers102", root)) == before


def test_flowers102__damaged_files_of_matlab_are_refused_or_read_and_nothing_else(tmp_path: Path) -> None:
    root = make_flowers102(tmp_path)
    rng = random.Random(0)
    for name in ("imagelabels.mat", "setid.mat"):
        sound = (root / name).read_bytes()
        for _ in range(200):
            damaged = bytearray(sound)
            damaged[rng.randrange(120, len(sound))] = rng.randrange(256)
            (root / name).write_bytes(damaged[: rng.choice([len(sound), rng.randrange(len(sound))])])
            with suppress(UserError):
                read("flowers102", root)
        (root / name).write_bytes(sound)


def test_flowers102__a_variable_that_unpacks_to_gigabytes(tmp_path: Path) -> None:
    root = make_flowers102(tmp_path)
    packed = zlib.compress(b"\0" * 2**25)
    header = b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM"
    (root / "setid.mat").write_bytes(header + struct.pack("<II", 15, len(packed)) + packed)
    expected = "is no file of MATLAB 5 that can be read (a variable is cut short, or has more than 16,777,216 bytes)"
    assert said("flowers102", root) == f"{root}/setid.mat: {expected}"
