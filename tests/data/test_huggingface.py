"""Datasets of Hugging Face on disk: what save_to_disk writes, and copies of repositories."""

from __future__ import annotations

import gc
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kd.common.errors import UserError
from kd.data.options import SplitOptions
from kd.data.packed import open_split, read_info
from kd.data.sources import huggingface
from kd.data.sources.base import Listing
from kd.data.sources.members import spooled
from tests.data.named_layouts import (
    CLASS_LABEL,
    IMAGE,
    image_bytes,
    make_table,
    pack_source,
    pixels,
    save_to_disk,
    write,
    write_arrow,
    write_parquet,
)

FEATURES = {"image": IMAGE, "label": CLASS_LABEL}
TAGS = {"image": IMAGE, "tags": {"feature": CLASS_LABEL, "length": -1, "_type": "Sequence"}}


def table(labels: list[Any], first: int = 0, features: Any = FEATURES) -> Any:
    """Images from a seed on, and a label for each."""
    return make_table({"image": range(first, first + len(labels)), "label": labels}, features)


def tagged(labels: list[Any], features: Any = TAGS) -> Any:
    return make_table({"image": range(len(labels)), "tags": labels}, features)


def read(root: Path, **options: Any) -> Listing:
    return huggingface.read(huggingface.Options(root=root, **options))


def rows(listing: Listing) -> list[tuple[str, tuple[str, ...], str | None]]:
    return [(each.id, each.labels, each.split) for each in listing.samples]


def test_huggingface__what_a_dataset_dict_saves(tmp_path: Path) -> None:
    tables = {"train": [table([0, 2, 1]), table([1], 3)], "validation": [table([2], 4)], "test": [table([0], 5)]}
    listing = read(save_to_disk(tmp_path, tables))
    assert rows(listing) == [
        ("train/0000000", ("cat",), "train"),
        ("train/0000001", ("fox",), "train"),
        ("train/0000002", ("dog",), "train"),
        ("train/0000003", ("dog",), "train"),
        ("val/0000000", ("fox",), "val"),
        ("test/0000000", ("cat",), "test"),
    ]
    for seed, sample in enumerate(listing.samples):
        assert np.array_equal(np.asarray(sample.open()), pixels(seed))
    assert (listing.notes, listing.classes) == ({}, None)


def test_huggingface__what_a_dataset_saves_has_no_splits(tmp_path: Path) -> None:
    listing = read(save_to_disk(tmp_path, {".": [table([0, 1])]}))
    assert rows(listing) == [("0000000", ("cat",), None), ("0000001", ("dog",), None)]


@pytest.mark.parametrize(
    "names",
    [
        {"train": ["data/train-00000-of-00002-0123456789abcdef.parquet", "data/train-00001-of-00002-fedcba98.parquet"]},
        {"train": ["train-00000-of-00001.parquet"], "val": ["validation-00000-of-00001.parquet"]},
        {"train": ["default/train/0000.parquet", "default/train/0001.parquet"], "test": ["default/test/0000.parquet"]},
        {"train": ["plain_text/train.parquet"], "test": ["plain_text/test.parquet"]},
        {"train": ["train/train.parquet"], "test": ["test/test.parquet"]},
        {"train": ["0.0.0/c0ffee/beans-train.arrow"], "val": ["0.0.0/c0ffee/beans-validation.arrow"]},
        {"train": ["beans-train-00000-of-00002.arrow", "beans-train-00001-of-00002.arrow"]},
        {None: ["beans.parquet"]},
        {None: ["data/0000.parquet", "data/0001.parquet"]},
    ],
)
def test_huggingface__files_of_a_repository_are_called_after_their_splits(
    tmp_path: Path, names: dict[str | None, list[str]]
) -> None:
    write(tmp_path / "README.md", "---\nlicense: mit\n---\n")
    write(tmp_path / "beans.py", "raise SystemExit('code of a repository is not run')\n")
    write(tmp_path / ".cache/huggingface/old.parquet", "hidden")
    written = sorted((file, split) for split, files in names.items() for file in files)
    for number, (file, _) in enumerate(written):
        form = write_parquet if file.endswith("parquet") else write_arrow
        form(tmp_path / file, table([0, 1, 2], 3 * number))
    listing = read(tmp_path)
    expected = [split for _, split in written for _ in range(3)]
    assert [each.split for each in listing.samples] == expected
    assert len({each.id for each in listing.samples}) == len(expected)
    for number, sample in enumerate(listing.samples):
        assert np.array_equal(np.asarray(sample.open()), pixels(number))


def test_huggingface__a_copy_of_the_hub_has_links_to_its_files(tmp_path: Path) -> None:
    write_parquet(tmp_path / "blobs/c0ffee", table([0, 1]))
    snapshot = tmp_path / "snapshots/main"
    (snapshot / "data").mkdir(parents=True)
    (snapshot / "data/train-00000-of-00001.parquet").symlink_to("../../../blobs/c0ffee")
    assert [each.labels for each in read(snapshot).samples] == [("cat",), ("dog",)]


@pytest.mark.parametrize("form", [write_parquet, write_arrow])
def test_huggingface__files_of_other_programs_have_no_features(tmp_path: Path, form: Any) -> None:
    columns: dict[str, Any] = {"img": [image_bytes(0), image_bytes(1)], "labels": ["cat", " dog "], "id": [7, 8]}
    form(tmp_path / f"other/train.{form.__name__.removeprefix('write_')}", make_table(columns))
    listing = read(tmp_path / "other")
    assert [each.labels for each in listing.samples] == [("cat",), ("dog",)]
    assert np.array_equal(np.asarray(listing.samples[1].open()), pixels(1))
    numbered = make_table(columns | {"labels": [3, 12]})
    form(tmp_path / f"other/train.{form.__name__.removeprefix('write_')}", numbered)
    assert [each.labels for each in read(tmp_path / "other").samples] == [("3",), ("12",)]


def test_huggingface__the_first_columns_of_their_types_are_read_and_others_told(tmp_path: Path) -> None:
    """CIFAR-100 has fine and coarse labels."""
    coarse = {"names": ["pet", "wild"], "_type": "ClassLabel"}
    features = {"id": {"dtype": "int64", "_type": "Value"}, "small_image": IMAGE, "image": IMAGE}
    features |= {"fine": CLASS_LABEL, "coarse": coarse}
    columns = {"id": [1, 2], "small_image": [0, 1], "image": [5, 6], "fine": [0, 2], "coarse": [0, 1]}
    root = save_to_disk(tmp_path, {".": [make_table(columns, features)]})
    listing = read(root)
    assert [each.labels for each in listing.samples] == [("cat",), ("fox",)]
    assert np.array_equal(np.asarray(listing.samples[0].open()), pixels(0))
    note = "further columns with images or classes left out"
    assert listing.notes == {f"{note} (image)": 1, f"{note} (coarse)": 1}
    chosen = read(root, image_column="image", label_column="coarse")
    assert [each.labels for each in chosen.samples] == [("pet",), ("wild",)]
    assert np.array_equal(np.asarray(chosen.samples[0].open()), pixels(5))
    assert chosen.notes == {}


@pytest.mark.parametrize(
    "kind",
    [
        {"feature": CLASS_LABEL, "length": -1, "_type": "Sequence"},
        {"feature": CLASS_LABEL, "_type": "List"},
        {"feature": CLASS_LABEL, "_type": "LargeList"},
        [CLASS_LABEL],
    ],
)
def test_huggingface__lists_of_classes_are_for_multi_label(tmp_path: Path, kind: Any) -> None:
    root = save_to_disk(tmp_path, {".": [tagged([[0, 2], [1], []], {"image": IMAGE, "tags": kind})]})
    listing = read(root, task="multi_label", unlabelled="keep")
    assert [each.labels for each in listing.samples] == [("cat", "fox"), ("dog",), ()]
    assert listing.classes == ["cat", "dog", "fox"]
    assert listing.notes == {"rows without a class kept": 1}
    with pytest.raises(UserError, match=r"source.label_column: must be given: .* has the columns \['image', 'tags'\]$"):
        read(root)
    with pytest.raises(
        UserError, match=r"row 0: tags is a list; say task: multi_label, or another source.label_column"
    ):
        read(root, label_column="tags")


def test_huggingface__rows_without_a_class_are_errors_or_counted(tmp_path: Path) -> None:
    """Many a test split on the hub has -1 for all labels."""
    root = save_to_disk(tmp_path, {"train": [table([0, None, 1])], "test": [table([-1, 2])]})
    said = r"data-00000-of-00001.arrow, row 1: label is None, which is no class; say source.unlabelled: drop"
    with pytest.raises(UserError, match=said):
        read(root)
    listing = read(root, unlabelled="drop")
    assert [each.id for each in listing.samples] == ["train/0000000", "train/0000002", "test/0000001"]
    assert listing.notes == {"rows without a class dropped": 2}


def test_huggingface__splits_may_be_named(tmp_path: Path) -> None:
    root = save_to_disk(tmp_path, {name: [table([0, 1])] for name in ("train", "test", "extra", "validation")})
    with pytest.raises(
        UserError, match=r"split 'extra' is none of train, val and test; say in source.splits which are"
    ):
        read(root)
    listing = read(root, splits={"train": "extra", "test": "validation"})
    assert [each.split for each in listing.samples] == ["train", "train", "test", "test"]
    assert listing.notes == {huggingface.UNREAD: 2}
    with pytest.raises(
        UserError, match=r"source.splits: .* has no split 'dev'; it has \['extra', 'test', 'train', 'val"
    ):
        read(root, splits={"train": "train", "val": "dev"})
    write_parquet(tmp_path / "hub/extra-00000-of-00001.parquet", table([0, 1]))
    write_parquet(tmp_path / "hub/train.parquet", table([1, 2]))
    listing = read(tmp_path / "hub", splits={"train": "extra"})
    assert [each.labels for each in listing.samples] == [("cat",), ("dog",)]


@pytest.mark.parametrize("form", [write_parquet, write_arrow])
def test_huggingface__is_read_by_many_threads(tmp_path: Path, form: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images of a Parquet file are copied once for all of them, and the copy is gone with the samples."""
    made: list[Any] = []

    def counted(*arguments: Any) -> Any:
        made.append(spooled(*arguments))
        return made[-1]

    monkeypatch.setattr("kd.data.sources.huggingface.spooled", counted)
    form(tmp_path / f"train.{form.__name__.removeprefix('write_')}", table([0, 1, 2, 0, 1]))
    listing = read(tmp_path)
    assert made == []
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda sample: np.asarray(sample.open()), listing.samples * 20))
    for place, image in enumerate(found):
        assert np.array_equal(image, pixels(place % 5))
    assert len(made) == (form is write_parquet)
    del listing
    gc.collect()
    assert all(each.closed for each in made)


def test_huggingface__fingerprint_follows_files(tmp_path: Path) -> None:
    options = huggingface.Options(root=save_to_disk(tmp_path, {".": [table([0, 1])]}))
    before = huggingface.fingerprint(options)
    os.utime(tmp_path / "data-00000-of-00001.arrow", (1, 1))
    assert huggingface.fingerprint(options) != before


def test_huggingface__files_that_changes_were_cached_in_are_left_out(tmp_path: Path) -> None:
    write_arrow(tmp_path / "beans-train.arrow", table([0, 1]))
    write_arrow(tmp_path / "cache-0123456789abcdef.arrow", table([2, 2]))
    listing = read(tmp_path)
    assert [each.labels for each in listing.samples] == [("cat",), ("dog",)]
    assert listing.notes == {huggingface.CACHED: 1}


def test_huggingface__is_packed(tmp_path: Path) -> None:
    for number in range(2):
        labels = [[row % 3, (row + 1) % 3] for row in range(12)]
        made = make_table({"image": range(12 * number, 12 * number + 12), "tags": labels}, TAGS)
        write_parquet(tmp_path / f"hub/data/train-{number:05d}-of-00002.parquet", made)
    source = {"type": "huggingface", "root": str(tmp_path / "hub")}
    pack_source(tmp_path / "packed", source, "multi_label", SplitOptions(val=4, test=4))
    assert read_info(tmp_path / "packed").classes == ("cat", "dog", "fox")
    train = open_split(tmp_path / "packed", "train")
    assert train.labels.shape == (16, 3)
    assert (train.labels.sum(axis=1) == 2).all()
