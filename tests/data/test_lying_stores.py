"""Stores whose descriptions lie: one line says so before memory is taken, and nothing is read as something else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kd.common.errors import UserError
from kd.data.packed import open_split, read_info
from kd.data.storage import create_group, create_rows, open_group, open_rows

Document = dict[str, Any]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """10 rows of 3 float32 in chunks of 4."""
    root = create_group(tmp_path / "a.zarr")
    create_rows(root, "rows", 10, (3,), "float32", chunk=4).write(slice(0, 10), np.ones((10, 3), np.float32))
    return tmp_path / "a.zarr"


def edit(store: Path, change: Callable[[Document], object], array: str = "rows") -> None:
    path = store / array / "zarr.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def grid(document: Document) -> Any:
    return document["chunk_grid"]["configuration"]


LIES: dict[str, Callable[[Document], object]] = {
    "rows": lambda document: document.update(shape=[10**15, 3]),
    "width": lambda document: (document.update(shape=[10, 10**15]), grid(document).update(chunk_shape=[4, 10**15])),
    "chunk": lambda document: grid(document).update(chunk_shape=[10**12, 3]),
    "no chunk": lambda document: grid(document).update(chunk_shape=[0, 3]),
    "dtype": lambda document: document.update(data_type="float64"),
    "text": lambda document: document.update(data_type="string"),
    "negative": lambda document: document.update(shape=[-1, 3]),
    "shape": lambda document: document.update(shape="10"),
    "codecs": lambda document: document.update(codecs=[{"name": "numcodecs.pickle", "configuration": {}}]),
    "codec": lambda document: document.update(codecs=5),
    "grid": lambda document: document.update(chunk_grid=None),
    "places": lambda document: document["chunk_key_encoding"]["configuration"].update(separator="/"),
    "kind": lambda document: document.update(node_type="group"),
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_open_rows__refuses_what_is_not_on_the_disk(store: Path, lie: str) -> None:
    edit(store, LIES[lie])
    with pytest.raises(UserError, match="rows") as caught:
        open_rows(open_group(store), "rows").read()
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("text", ["", "5", "[" * 100_000, "{}", '{"zarr_format": 2, "node_type": "group"}', "\0"])
def test_open_group__refuses_what_is_no_description(store: Path, text: str) -> None:
    (store / "zarr.json").write_text(text)
    with pytest.raises(UserError, match=r"a\.zarr"):
        open_group(store)


def test_create_rows__takes_no_array_of_another_layout_for_its_own(store: Path) -> None:
    root = create_group(store)
    with pytest.raises(UserError, match="is laid out otherwise than wanted"):
        create_rows(root, "rows", 12, (3,), "float32", chunk=4)
    with pytest.raises(UserError, match="is laid out otherwise than wanted"):
        create_rows(root, "rows", 10, (3,), "float32", chunk=5)
    assert create_rows(root, "rows", 10, (3,), "float32", chunk=4).read().sum() == 30


@pytest.mark.parametrize("attributes", [{}, {"classes": 5}, {"mean": "x"}, {"sizes": [1]}])
def test_read_info__of_a_store_that_describes_no_dataset(dataset: Path, tmp_path: Path, attributes: Any) -> None:
    root = create_group(tmp_path / "images.zarr")
    described = open_group(dataset / "images.zarr").attrs.asdict()
    root.attrs.update(described | attributes if attributes else {})
    with pytest.raises(UserError, match="describe no packed dataset"):
        read_info(tmp_path)


def test_open_split__of_a_store_that_lacks_it(tmp_path: Path) -> None:
    create_group(tmp_path / "images.zarr")
    with pytest.raises(UserError, match="holds no array train/labels"):
        open_split(tmp_path, "train")
