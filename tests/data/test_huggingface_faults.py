"""Datasets of Hugging Face that are damaged, or not as they should be: one line says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from kd.common.errors import UserError
from kd.data.sources import huggingface
from kd.data.sources.base import Listing
from tests.data.named_layouts import (
    CLASS_LABEL,
    IMAGE,
    make_table,
    pixels,
    save_to_disk,
    write,
    write_arrow,
    write_parquet,
)

FEATURES = {"image": IMAGE, "label": CLASS_LABEL}


def table(labels: list[Any], features: Any = FEATURES) -> Any:
    return make_table({"image": range(len(labels)), "label": labels}, features)


def read(root: Path, **options: Any) -> Listing:
    return huggingface.read(huggingface.Options(root=root, **options))


def saved(labels: list[Any], **options: Any) -> Callable[[Path], Path]:
    return lambda root: save_to_disk(root, {".": [table(labels, **options)]})


def described(file: str, content: Any) -> Callable[[Path], Path]:
    """What a DatasetDict saves, with another description."""

    def make(root: Path) -> Path:
        save_to_disk(root, {"train": [table([0, 1])]})
        write(root / file, content if isinstance(content, str) else json.dumps(content))
        return root

    return make


def parquets(*names: str) -> Callable[[Path], Path]:
    def make(root: Path) -> Path:
        for name in names:
            write_parquet(root / name, table([0, 1]))
        return root

    return make


def columns(root: Path, **given: Any) -> Path:
    return save_to_disk(root, {".": [make_table({"image": [0], "label": [1]} | given)]})


STATE = "train/state.json"
NOTHING = {"label": [0]}
MULTI = {"task": "multi_label"}
FAULTS: dict[str, tuple[Callable[[Path], Path], dict[str, Any], str]] = {
    "nowhere": (lambda root: root / "none", {}, r"source.root: .*none is not a folder$"),
    "nothing": (
        lambda root: root,
        {},
        r"source.root: .* holds no dataset; expected dataset_dict.json or state.json of",
    ),
    "no json": (described(STATE, "{"), {}, "train/state.json: is not JSON "),
    "other json": (described(STATE, "[]"), {}, "train/state.json: is JSON of another kind; expected an object$"),
    "no splits": (
        described("dataset_dict.json", {"splits": []}),
        {},
        "dataset_dict.json: splits is no list of names of",
    ),
    "splits elsewhere": (
        described("dataset_dict.json", {"splits": ["../x"]}),
        {},
        "dataset_dict.json: splits is no list",
    ),
    "split missing": (
        described("dataset_dict.json", {"splits": ["train", "test"]}),
        {},
        r"source.root: .*test/state.json: cannot be read \(No such file or directory\)$",
    ),
    "no files": (described(STATE, {}), {}, "state.json: _data_files is no list of names of files$"),
    "files elsewhere": (
        described(STATE, {"_data_files": [{"filename": "/etc/passwd"}]}),
        {},
        "state.json: _data_files is no list of names of files$",
    ),
    "file missing": (
        described(STATE, {"_data_files": [{"filename": "a.arrow"}]}),
        {},
        r"a.arrow: cannot be read \(.*No such file or directory\); get it again$",
    ),
    "indices": (
        described(STATE, {"_data_files": [{"filename": "a.arrow"}], "_indices_data_files": [{"filename": "b.arrow"}]}),
        {},
        "state.json: only some rows of the files belong to it; save it with a newer `datasets`$",
    ),
    "configurations": (
        parquets("fine/train.parquet", "coarse/train.parquet"),
        {},
        r"source.root: .* has datasets in several folders, \['coarse', 'fine'\]; name one of them$",
    ),
    "no split": (
        parquets("train.parquet", "more.parquet"),
        {},
        "source.root: .*: split 'more' is none of train, val and test; say in source.splits which are",
    ),
    "split twice": (
        parquets("train.parquet", "training.parquet"),
        {},
        "source.root: .*: split 'training' is train, as another one is, too; say in source.splits",
    ),
    "damaged arrow": (
        lambda root: write(saved([0, 1])(root) / "data-00000-of-00001.arrow", b"\xff" * 999).parent,
        {},
        r"data-00000-of-00001.arrow: cannot be read \(.+\); get it again$",
    ),
    "empty arrow": (
        lambda root: write(saved([0, 1])(root) / "data-00000-of-00001.arrow", b"").parent,
        {},
        r"data-00000-of-00001.arrow: cannot be read \(.+\); get it again$",
    ),
    "damaged parquet": (
        lambda root: write(root / "train.parquet", b"PAR1" + b"\0" * 99 + b"PAR1").parent,
        {},
        r"train.parquet: cannot be read \(.+\); get it again$",
    ),
    "no rows": (saved([]), {}, "source.root: .* holds no row$"),
    "no image column": (
        lambda root: save_to_disk(root, {".": [make_table({"picture": [b""], "label": [1]})]}),
        {},
        r"source.image_column: must be given: .*arrow has the columns \['picture', 'label'\]$",
    ),
    "no label column": (
        lambda root: save_to_disk(root, {".": [make_table({"image": [0], "class": [1]})]}),
        {},
        r"source.label_column: must be given: .*arrow has the columns \['image', 'class'\]$",
    ),
    "other column": (
        saved([0, 1]),
        {"label_column": "fine"},
        r"source.label_column: .* has no column 'fine'; it has \['image', 'label'\]$",
    ),
    "features of no column": (
        saved([0, 1], features={"image": IMAGE, "fine": CLASS_LABEL}),
        {},
        r"data-00000-of-00001.arrow: cannot be read \(.*fine.*\); get it again$",
    ),
    "beyond": (saved([0, 3]), {}, "arrow, row 1: label is 3, expected 0 to 2$"),
    "negative": (saved([0, -2], features=None), {}, "arrow, row 1: label is -2, expected 0 or more$"),
    "half": (
        saved([0.0, 0.5], features=None),
        {},
        "arrow, row 0: label is '0.0', expected the number or the name of a",
    ),
    "bool": (saved([True, False], features=None), {}, "arrow, row 0: label is 'True', expected the number or the name"),
    "list": (saved([[1], [2]], features=None), {}, "arrow, row 0: label is a list; say task: multi_label, or another"),
    "vector": (
        saved([[0, 1, 0]], features=None),
        MULTI,
        r"row 0: label is \[0, 1, 0\], expected different classes, not",
    ),
    "hole": (saved([[1, None]], features=None), MULTI, r"row 0: label is \[1, None\], expected different classes, not"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_huggingface__faults(tmp_path: Path, fault: str) -> None:
    make, options, said = FAULTS[fault]
    with pytest.raises(UserError, match=said) as raised:
        read(make(tmp_path), **options)
    assert len(str(raised.value).splitlines()) == 1
    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize("form", [write_parquet, write_arrow])
@pytest.mark.parametrize(
    ("image", "said"),
    [
        (
            {"bytes": None, "path": "/data/cat.png"},
            "row 1: image is .*/data/cat.png.*, expected the bytes of an image file$",
        ),
        ({"bytes": b"", "path": None}, "row 1: image is .*, expected the bytes of an image file$"),
        (None, "row 1: image is None, expected the bytes of an image file$"),
        ({"bytes": b"no image", "path": None}, "row 1: is not an image that can be decoded$"),
    ],
)
def test_huggingface__an_image_that_is_none_is_named(tmp_path: Path, form: Any, image: Any, said: str) -> None:
    made = make_table({"image": [0, image, 2], "label": [0, 1, 2]}, FEATURES)
    form(tmp_path / f"train.{form.__name__.removeprefix('write_')}", made)
    samples = read(tmp_path).samples
    with pytest.raises(UserError, match=rf"train\.\w+, {said}") as raised:
        samples[1].open()
    assert len(str(raised.value).splitlines()) == 1
    assert np.array_equal(np.asarray(samples[2].open()), pixels(2))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"splits": {"test": "test"}}, r"splits: has \['test'\], expected train among them"),
        ({"unlabelled": "keep"}, "unlabelled: keep needs task: multi_label"),
        ({"label_column": ""}, "at least 1 character"),
    ],
)
def test_huggingface__options(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        huggingface.Options(root=Path(), **options)
