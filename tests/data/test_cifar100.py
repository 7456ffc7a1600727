"""CIFAR-100: pickles of every origin are read without executing anything, and what is wrong with one is one line."""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.data.official_layouts import (
    FINE,
    as_python2,
    cifar_content,
    cifar_pixels,
    make_cifar100,
    make_cifar100_binary,
    write_lines,
)
from tests.data.test_official_images import digest, read, rows, said


def keys_of_bytes(content: dict[str, Any]) -> dict[bytes, Any]:
    return {key.encode(): value for key, value in content.items()}


def with_tensor(content: dict[str, Any]) -> dict[str, Any]:
    """As in torchvision's tests."""
    return {key: torch.from_numpy(value) if key == "data" else value for key, value in content.items()}


def in_columns(content: dict[str, Any]) -> dict[str, Any]:
    return {key: np.asfortranarray(value) if key == "data" else value for key, value in content.items()}


WRITERS: dict[str, Callable[[Any], bytes]] = {
    "python 2": as_python2,
    **{f"protocol {number}": partial(pickle.dumps, protocol=number) for number in range(6)},
    "keys of bytes": lambda value: pickle.dumps(keys_of_bytes(value)),
    "columns first": lambda value: pickle.dumps(in_columns(value), 4),
    "columns first, protocol 5": lambda value: pickle.dumps(in_columns(value), 5),
    "tensor": lambda value: pickle.dumps(with_tensor(value), 2),
    "tensor, protocol 5": lambda value: pickle.dumps(with_tensor(value), 5),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_pickles__of_every_origin_are_the_same(tmp_path: Path, writer: str) -> None:
    listing = read("cifar100", make_cifar100(tmp_path, WRITERS[writer]))
    expected = [
        (f"{split}/{number:05d}", (FINE[number % 3],), split)
        for split, count in (("test", 3), ("train", 9))
        for number in range(count)
    ]
    assert rows(listing) == expected
    for sample in listing.samples:
        pixels = np.asarray(sample.open())
        assert pixels.shape == (32, 32, 3)
        assert set(pixels[..., 0].flat) == {int(sample.id[-5:])}
        assert (pixels[..., 1] == np.arange(32)[None, :]).all()
        assert (pixels[..., 2] == np.arange(32)[:, None]).all()


def test_pickles__of_these_tests_are_as_python_2_makes_them() -> None:
    content = {"fine_labels": [1, 2], "data": cifar_pixels(2), "filenames": ["a.png"]}
    names = {arg for code, arg, _ in pickletools.genops(as_python2(content)) if code.name == "GLOBAL"}
    assert names == {"numpy.core.multiarray _reconstruct", "numpy ndarray", "numpy dtype"}
    text = as_python2(content).replace(b"numpy.core", b"numpy._core")  # which this version of numpy has
    found = pickle.loads(text, encoding="latin1")
    assert (found["data"] == content["data"]).all()
    assert (found["fine_labels"], found["filenames"]) == ([1, 2], ["a.png"])


def test_binary_files__are_the_same_as_pickles(tmp_path: Path) -> None:
    pickled = read("cifar100", make_cifar100(tmp_path / "python"))
    binary = read("cifar100", make_cifar100_binary(tmp_path / "binary").parent)
    assert rows(binary) == rows(pickled)
    for one, other in zip(pickled.samples, binary.samples, strict=True):
        assert one.open().tobytes() == other.open().tobytes()


def with_field(**fields: Any) -> bytes:
    """The pickle of train with other fields; None: without it."""
    content = cifar_content("train") | fields
    return pickle.dumps({key: value for key, value in content.items() if value is not None}, 4)


class Harmful:
    """Makes a folder when it is unpickled, where nobody looks."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


HARMFUL = Path("harm")
SOUND = with_field()
WRONG: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is no pickle of CIFAR-100 that can be read (Ran out of input)"),
    "garbage": (b"\x89PNG\r\n\x1a\n", "is no pickle of CIFAR-100 that can be read ("),
    "page": (b"<html>\n404\n</html>", "is no pickle of CIFAR-100 that can be read ("),
    "cut": (SOUND[:20_000], "is no pickle of CIFAR-100 that can be read ("),
    "deep": (b"(" * 10 + b"]" * 200_000 + b"a" * 199_999 + b".", "is "),
    "claims": (b"\x80\x04\x8e" + struct.pack("<Q", 2**60), "is no pickle of CIFAR-100 that can be read ("),
    "list": (pickle.dumps([1]), "is a pickle of list, expected a mapping, as in CIFAR-100"),
    "array": (pickle.dumps(cifar_pixels(1)), "is a pickle of numpy._core.multiarray._reconstruct, expected a mapping"),
    "CIFAR-10": (
        pickle.dumps({"data": cifar_pixels(1), "labels": [0]}),
        "has no fine_labels, expected it as in CIFAR-100; it has ['data', 'labels']",
    ),
    "no data": (with_field(data=None), "has no data, expected it as in CIFAR-100; it has ['batch_label', "),
    "list of data": (with_field(data=cifar_pixels(9).tolist()), "data is list, expected an array"),
    "dict of labels": (with_field(fine_labels={}), "fine_labels is dict, expected a list"),
    "array of labels": (
        with_field(fine_labels=np.arange(9)),
        "fine_labels is numpy._core.multiarray._reconstruct, exp",
    ),
    "floats": (
        with_field(data=cifar_pixels(9) / 255),
        "data is no array of uint8 that can be read (its type is 'f8')",
    ),
    "objects": (
        with_field(data=cifar_pixels(1).astype(object)),
        "data is no array of uint8 that can be read (its type is 'O8')",
    ),
    "float tensor": (
        with_field(data=torch.zeros(9, 3072)),
        "data is no array of uint8 that can be read (its type is torch.float32)",
    ),
    "scalar": (
        with_field(data=np.dtype("u1")),
        "data is no array of uint8 that can be read (it is numpy.dtype)",
    ),
    "shape": (with_field(data=np.zeros((9, 32, 32, 3), np.uint8)), "data has shape (9, 32, 32, 3), expected (N, 3072)"),
    "width": (with_field(data=np.zeros((9, 1024), np.uint8)), "data has shape (9, 1024), expected (N, 3072)"),
    "fewer labels": (with_field(fine_labels=[0] * 8), "fine_labels has 8 labels, expected 9, one for each image"),
    "label": (with_field(fine_labels=[0] * 8 + [3]), "fine_labels: image 8 has 3, expected 0 to 2"),
    "negative": (with_field(fine_labels=[-1] + [0] * 8), "fine_labels: image 0 has -1, expected 0 to 2"),
    "text": (with_field(fine_labels=["apple"] * 9), "fine_labels: image 0 has 'apple', expected 0 to 2"),
    "truth": (with_field(fine_labels=[True] * 9), "fine_labels: image 0 has True, expected 0 to 2"),
    "harm": (
        with_field(filenames=Harmful(HARMFUL)),
        "is no pickle of CIFAR-100 that can be read (it names posix.mkdir, which is not executed; expected arrays and",
    ),
    "harm in data": (with_field(data=Harmful(HARMFUL)), "it names posix.mkdir, which is not executed"),
    "eval": (b"cbuiltins\neval\n(S'1'\ntR.", "it names builtins.eval, which is not executed"),
    "attribute": (b"\x80\x04\x8c\x05numpy\x8c\x0ecore.os.system\x93.", "it names numpy.core.os.system, which is not"),
    "persistent": (b"Pabc\n.", "is no pickle of CIFAR-100 that can be read ("),
    "state": (b"\x80\x02cnumpy\ndtype\n}U\x04nameU\x04evilsb.", "is no pickle of CIFAR-100 that can be read ("),
    "extension": (b"\x80\x02\x82\x07.", "is no pickle of CIFAR-100 that can be read ("),
}


@pytest.mark.parametrize("fault", WRONG)
def test_pickles__faults(tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content, message = WRONG[fault]
    file = make_cifar100(tmp_path) / "train"
    file.write_bytes(content)
    text = said("cifar100", file.parent)
    assert str(file) in text
    assert message in text
    assert len(text) < 1000
    assert not HARMFUL.exists()


def test_pickles__shapes_that_claim_more_than_is_there(tmp_path: Path) -> None:
    """No memory is taken for them."""
    folder = make_cifar100(tmp_path)
    sound = (folder / "train").read_bytes()
    shape = b"(J" + struct.pack("<i", 9) + b"J" + struct.pack("<i", 3072) + b"t"
    assert sound.count(shape) == 1
    for rows_claimed, columns in ((2**31 - 1, 3072), (-9, -3072), (10, 3072)):
        claimed = b"(J" + struct.pack("<i", rows_claimed) + b"J" + struct.pack("<i", columns) + b"t"
        (folder / "train").write_bytes(sound.replace(shape, claimed))
        assert "train: data is no array of uint8 that can be read (" in said("cifar100", folder)


def test_tensors__whose_storage_is_harmful_or_too_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes inside are a file of torch, which may hold a pickle, too."""
    monkeypatch.chdir(tmp_path)
    folder = make_cifar100(tmp_path)
    harm, small = io.BytesIO(), io.BytesIO()
    torch.save(Harmful(HARMFUL), harm, _use_new_zipfile_serialization=False)
    torch.save(torch.zeros(9, dtype=torch.uint8).untyped_storage(), small, _use_new_zipfile_serialization=False)
    for stored in (harm, small, io.BytesIO(b"garbage")):
        (folder / "train").write_bytes(with_field(data=Tensor(stored.getvalue())))
        assert "train: data is no array of uint8 that can be read (" in said("cifar100", folder)
    assert not HARMFUL.exists()


class Tensor:
    """Pickled as a tensor of 9 x 3072, with a storage of any bytes."""

    def __init__(self, stored: bytes) -> None:
        self.stored = stored

    def __reduce__(self) -> Any:
        return torch._utils._rebuild_tensor_v2, (Storage(self.stored), 0, (9, 3072), (3072, 1), False, {})


class Storage:
    def __init__(self, stored: bytes) -> None:
        self.stored = stored

    def __reduce__(self) -> Any:
        return torch.storage._load_from_bytes, (self.stored,)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"coarse_label_names": ["fruit"]}, "has no fine_label_names, expected it as in CIFAR-100; it has ['coarse_"),
        ({"fine_label_names": "apple"}, "fine_label_names is str, expected a list"),
        ({"fine_label_names": [1, 2, 3]}, "fine_label_names has something that is no text, expected names of classes"),
        ({"fine_label_names": ["a", "b", "a"]}, "has 3 names of classes, 2 of them distinct; expected all"),
        ([], "is a pickle of list, expected a mapping"),
    ],
)
def test_meta__faults(tmp_path: Path, content: Any, message: str) -> None:
    folder = make_cifar100(tmp_path)
    (folder / "meta").write_bytes(pickle.dumps(content))
    assert said("cifar100", folder).startswith(f"{folder / 'meta'}: {message}")
    for name in ("test", "meta"):
        make_cifar100(tmp_path / name)
        (tmp_path / name / "cifar-100-python" / name).unlink()
        assert f"cifar-100-python/{name}: cannot be read (No such file" in said("cifar100", tmp_path / name)


def test_binary_files__faults(tmp_path: Path) -> None:
    folder = make_cifar100_binary(tmp_path)
    file = folder / "train.bin"
    sound = file.read_bytes()
    for content in (sound[:-1], b""):
        file.write_bytes(content)
        assert said("cifar100", tmp_path) == (
            f"{file}: has {len(content):,} bytes, expected a multiple of 3,074, one for each image"
        )
    file.write_bytes(b"\0\7" + sound[2:])
    assert said("cifar100", tmp_path) == f"{file}: fine label: image 0 has 7, expected 0 to 2"
    file.write_bytes(sound)
    write_lines(folder / "fine_label_names.txt", ["a", "b", "a"])
    assert "fine_label_names.txt: has 3 names of classes, 2 of them distinct" in said("cifar100", tmp_path)
    write_lines(folder / "fine_label_names.txt", FINE)
    (folder / "test.bin").unlink()
    assert "test.bin: cannot be read" in said("cifar100", tmp_path)


def test_fingerprint__does_not_mind_files_that_are_not_read(tmp_path: Path) -> None:
    folder = make_cifar100(tmp_path)
    before = digest("cifar100", folder)
    (folder / "file.txt~").write_text("changed")
    assert digest("cifar100", folder) == before
    (folder / "meta").touch()
    assert digest("cifar100", folder) != before
