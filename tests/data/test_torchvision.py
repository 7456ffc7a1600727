"""Datasets of torchvision by name, in the layouts that it reads."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from kd.common.errors import UserError
from kd.data.options import SplitOptions
from kd.data.packed import open_split
from kd.data.sources import torchvision
from kd.data.sources.base import Listing
from tests.data.named_layouts import (
    image_bytes,
    make_cifar10,
    make_eurosat,
    make_gtsrb,
    make_mnist,
    make_pets,
    make_stl10,
    make_svhn,
    pack_source,
    pixels,
    write,
)


@pytest.fixture(autouse=True)
def _any_checksum(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision knows the checksums of the real files."""
    for module in ("cifar", "svhn", "stl10"):
        monkeypatch.setattr(
            f"torchvision.datasets.{module}.check_integrity", lambda path, *_: Path(path).is_file(), raising=True
        )


def read(dataset: str, root: Path, **options: Any) -> Listing:
    return torchvision.read(torchvision.Options(dataset=dataset, root=root, **options))


def rows(listing: Listing) -> list[tuple[str, str, str | None]]:
    return [(each.id, each.labels[0], each.split) for each in listing.samples]


def test_torchvision__mnist_has_splits_by_train_and_names_of_classes(tmp_path: Path) -> None:
    listing = read("MNIST", make_mnist(tmp_path, {"train": [3, 0, 9], "test": [1]}))
    assert rows(listing) == [
        ("train/0000000", "3 - three", "train"),
        ("train/0000001", "0 - zero", "train"),
        ("train/0000002", "9 - nine", "train"),
        ("test/0000000", "1 - one", "test"),
    ]
    assert np.array_equal(np.asarray(listing.samples[1].open()), pixels(1, (28, 28)))
    assert (listing.notes, listing.classes) == ({}, None)


def test_torchvision__svhn_has_splits_by_words_and_numbers_for_classes(tmp_path: Path) -> None:
    """torchvision itself makes 0 of the label 10."""
    listing = read("SVHN", make_svhn(tmp_path, {"train": [10, 1, 9], "test": [2, 10]}))
    assert [each.split for each in listing.samples] == ["train"] * 3 + ["test"] * 2
    assert [each.labels[0] for each in listing.samples] == ["0", "1", "9", "2", "0"]
    assert np.array_equal(np.asarray(listing.samples[2].open()), pixels(2, (32, 32, 3)))


def test_torchvision__cifar10_has_the_names_of_its_file(tmp_path: Path) -> None:
    listing = read("CIFAR10", make_cifar10(tmp_path))
    assert [each.labels[0] for each in listing.samples[:3]] == ["airplane", "automobile", "bird"]
    assert [each.split for each in listing.samples] == ["train"] * 10 + ["test"] * 2
    assert np.array_equal(np.asarray(listing.samples[7].open()), pixels(7, (32, 32, 3)))


def test_torchvision__eurosat_has_no_splits_and_paths_for_ids(tmp_path: Path) -> None:
    root = make_eurosat(tmp_path)
    write(root / "eurosat/2750/River/see_through.png", image_bytes(1, shape=(10, 12, 4)))
    listing = read("EuroSAT", root)
    assert rows(listing)[0] == ("eurosat/2750/AnnualCrop/AnnualCrop_1.jpg", "AnnualCrop", None)
    assert {each.labels[0] for each in listing.samples} == {"AnnualCrop", "Forest", "River"}
    assert len(listing.samples) == 7
    assert listing.samples[-1].open().mode == "RGBA"  # torchvision's own loader drops what is transparent unseen


def test_torchvision__gtsrb_keeps_labels_beside_paths(tmp_path: Path) -> None:
    listing = read("GTSRB", make_gtsrb(tmp_path))
    assert rows(listing)[2:] == [
        ("train/gtsrb/GTSRB/Training/00001/00000_00000.ppm", "1", "train"),
        ("train/gtsrb/GTSRB/Training/00001/00000_00001.ppm", "1", "train"),
        ("train/gtsrb/GTSRB/Training/00002/00000_00000.ppm", "2", "train"),
        ("train/gtsrb/GTSRB/Training/00002/00000_00001.ppm", "2", "train"),
        ("test/gtsrb/GTSRB/Final_Test/Images/00000.ppm", "2", "test"),
        ("test/gtsrb/GTSRB/Final_Test/Images/00001.ppm", "0", "test"),
    ]
    assert np.array_equal(np.asarray(listing.samples[-1].open()), pixels(51))


def test_torchvision__pets_has_trainval_for_train(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    listing = read("OxfordIIITPet", make_pets(tmp_path))
    assert rows(listing)[1] == ("train/oxford-iiit-pet/images/american_bulldog_1.jpg", "American Bulldog", "train")
    assert [each.split for each in listing.samples] == ["train"] * 4 + ["test"] * 4
    assert caplog.records == []


def test_torchvision__labels_that_items_have_otherwise_are_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The dataset keeps breeds and their names, but its items are to have the species."""
    with caplog.at_level(logging.WARNING, "kd"):
        listing = read("OxfordIIITPet", make_pets(tmp_path), arguments={"target_types": "binary-category"})
    assert [each.labels[0] for each in listing.samples] == ["0", "1", "1", "0"] * 2
    assert "OxfordIIITPet lists no labels: 4 images of train are read for them" in caplog.text


def test_torchvision__splits_and_arguments_may_be_given(tmp_path: Path) -> None:
    root = make_svhn(tmp_path, {"train": [1, 2], "extra": [3, 4], "test": [5, 6]})
    splits = {"train": {"split": "extra"}, "val": {"split": "train"}, "test": {"split": "test"}}
    assert [each[1:] for each in rows(read("SVHN", root, splits=splits))] == [
        ("3", "train"),
        ("4", "train"),
        ("1", "val"),
        ("2", "val"),
        ("5", "test"),
        ("6", "test"),
    ]
    alone = read("SVHN", root, arguments={"split": "extra"})
    assert rows(alone) == [("0000000", "3", None), ("0000001", "4", None)]


def test_torchvision__fingerprint_follows_files_and_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = torchvision.Options(dataset="EuroSAT", root=make_eurosat(tmp_path))
    before = torchvision.fingerprint(options)
    assert torchvision.fingerprint(options) == before
    os.utime(tmp_path / "eurosat/2750/River/River_1.jpg", (1, 1))
    assert torchvision.fingerprint(options) != before
    monkeypatch.setattr("importlib.metadata.version", lambda _: "0.0.1")
    assert torchvision.fingerprint(options)["torchvision"] == "0.0.1"
    with pytest.raises(UserError, match=r"source.root: .*nowhere: cannot be read \(No such file or directory\)$"):
        torchvision.fingerprint(torchvision.Options(dataset="EuroSAT", root=tmp_path / "nowhere"))


def test_torchvision__classes_of_one_name_stay_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ImageNet has two classes crane, and lists synonyms."""
    monkeypatch.setattr("torchvision.datasets.MNIST.classes", [("crane",), ("maillot", "tank suit"), ("crane",)])
    listing = read("MNIST", make_mnist(tmp_path, {"train": [0, 1, 2], "test": [1]}))
    both = "maillot, tank suit"
    assert [each.labels[0] for each in listing.samples] == ["crane (0)", both, "crane (2)", both]
    assert listing.notes == {torchvision.SAME_NAME: 2}


def nothing(root: Path) -> Path:
    return root


ABSENT = (
    r"source.root: .*: torchvision finds no CIFAR10 there for {'train': True} \(RuntimeError: Dataset not found or"
    r" corrupted.*\); it says of its root: Root directory of dataset where directory ``cifar-10-batches-py`` exists"
    r" .*; nothing is downloaded but by torchvision.datasets.CIFAR10 with download=True$"
)
FAULTS: dict[str, tuple[Callable[[Path], Path], dict[str, Any], str]] = {
    "unknown": (
        nothing,
        {"dataset": "SVNH"},
        r"source.dataset: torchvision has no SVNH that is read; did you mean SVHN\? known are",
    ),
    "no root": (nothing, {"dataset": "FakeData"}, r"source.dataset: torchvision has no FakeData that is read; "),
    "pickled": (nothing, {"dataset": "LSUN"}, "source.dataset: torchvision has no LSUN that is read; "),
    "missing": (nothing, {"dataset": "CIFAR10"}, ABSENT),
    "missing, by what it is derived from": (
        nothing,
        {"dataset": "CIFAR100"},
        "torchvision finds no CIFAR100 .* it says of its root: Root directory of dataset where directory ",
    ),
    "missing, by hand": (nothing, {"dataset": "FER2013"}, "torchvision finds no FER2013 .*; nothing is downloaded$"),
    "half": (
        lambda root: make_svhn(root, {"train": [1, 2]}),
        {"dataset": "SVHN"},
        r"source.root: .*: torchvision finds no SVHN there for {'split': 'test'} \(RuntimeError",
    ),
    "damaged": (
        lambda root: write(make_svhn(root, {"train": [1], "test": [1]}) / "test_32x32.mat", b"x" * 500).parent,
        {"dataset": "SVHN"},
        r"source.root: .*: torchvision finds no SVHN there for {'split': 'test'} \(ValueError: ",
    ),
    "argument": (
        nothing,
        {"dataset": "SVHN", "arguments": {"part": 1}},
        r"source.arguments: SVHN takes no 'part', but \['split'\]$",
    ),
    "ours": (
        nothing,
        {"dataset": "SVHN", "splits": {"train": {"download": True}}},
        "source.splits.train: download is given by the program; leave it out$",
    ),
    "needed": (nothing, {"dataset": "EMNIST"}, "source.arguments: EMNIST needs split, too$"),
    "value": (
        nothing,
        {"dataset": "SVHN", "splits": {"train": {"split": "trian"}}},
        r"source.splits.train: SVHN: Unknown value 'trian' for argument split. Valid values are ",
    ),
    "words": (
        nothing,
        {"dataset": "Places365"},
        r"source.splits: must be given, as Places365 has no split that is called train \(.*train-standard",
    ),
    "no label": (
        make_stl10,
        {"dataset": "STL10", "arguments": {"split": "unlabeled"}},
        r"STL10 in .*: sample 0 has the label -1, which stands for none; expected 0 or more$",
    ),
    "some without label": (
        make_stl10,
        {"dataset": "STL10", "splits": {"train": {"split": "train+unlabeled"}}},
        r"STL10 in .*: sample 3 of train has the label -1, which stands for none",
    ),
    "no class": (
        make_pets,
        {"dataset": "OxfordIIITPet", "arguments": {"target_types": "segmentation"}},
        r"OxfordIIITPet in .*: sample 0 of train cannot be read \(FileNotFoundError",
    ),
    "several": (
        make_pets,
        {"dataset": "OxfordIIITPet", "arguments": {"target_types": ["category", "binary-category"]}},
        r"sample 0 of train has the target \(0, 0\), expected the number of a class$",
    ),
    "too many": (
        lambda root: make_mnist(root, {"train": [0, 10], "test": [1]}),
        {"dataset": "MNIST"},
        r"MNIST in .*: sample 1 of train has the label 10, expected less than 10, the number of classes$",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_torchvision__mistakes(tmp_path: Path, fault: str) -> None:
    make, options, said = FAULTS[fault]
    with pytest.raises(UserError, match=said) as raised:
        torchvision.read(torchvision.Options(root=make(tmp_path), **options))
    assert len(str(raised.value).splitlines()) == 1
    assert len(str(raised.value)) < 2500


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dataset": "os.path"}, "String should match pattern"),
        ({"dataset": "SVHN", "splits": {"test": {}}}, r"has \['test'\], expected train among them"),
        ({"dataset": "SVHN", "splits": {"trian": {}}}, "Input should be 'train', 'val' or 'test'"),
    ],
)
def test_torchvision__options(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        torchvision.Options(root=Path(), **options)


def test_torchvision__an_image_that_is_damaged_is_named(tmp_path: Path) -> None:
    root = make_pets(tmp_path)
    listing = read("OxfordIIITPet", root)
    write(root / "oxford-iiit-pet/images/american_bulldog_1.jpg", b"no image")
    with pytest.raises(UserError, match=r"sample 1 of train cannot be read \(UnidentifiedImageError: .*bulldog_1"):
        listing.samples[1].open()
    write(make_eurosat(tmp_path) / "eurosat/2750/River/River_2.jpg", b"no image")
    with pytest.raises(UserError, match=r"River_2.jpg: is not an image that can be decoded$"):
        read("EuroSAT", tmp_path).samples[-1].open()


def test_torchvision__items_that_are_no_image_and_label_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_mnist(tmp_path, {"train": [0, 1], "test": [1]})
    for item, said in (((np.zeros(3), 1), r"is \['ndarray', 'int'\], expected an image and a label"), (5, "is int, ")):
        monkeypatch.setattr("torchvision.datasets.MNIST.__getitem__", lambda *_, item=item: item)
        with pytest.raises(UserError, match=rf"MNIST in .*: sample 0 of train {said}"):
            read("MNIST", root)


def test_torchvision__is_packed(tmp_path: Path) -> None:
    labels = {"train": [number % 3 for number in range(30)], "test": [0, 1, 2]}
    source = {"type": "torchvision", "dataset": "SVHN", "root": str(make_svhn(tmp_path, labels))}
    pack_source(tmp_path / "packed", source, "single_label", SplitOptions(val=6))
    split = open_split(tmp_path / "packed", "test")
    assert sorted(split.labels) == [0, 1, 2]
    assert len(open_split(tmp_path / "packed", "train").labels) == 24
