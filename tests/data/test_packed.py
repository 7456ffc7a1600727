"""Packed datasets hold what the source held, and notice damage."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kd.data.packed import check_classes, open_split, pack, read_info
from kd.data.sources.base import Sample
from kd.jobs.errors import UserError


def samples(count: int = 12, mode: str = "RGB") -> list[Sample]:
    generator = np.random.default_rng(0)
    shape = (20, 10, 3) if mode == "RGB" else (20, 10)
    images = [Image.fromarray(generator.integers(0, 256, shape, dtype=np.uint8)) for _ in range(count)]
    return [Sample(f"{index:02d}", "ab"[index % 2], images[index].copy) for index in range(count)]


CODES = np.array([0, 0, 0, 0, 0, 0, 1, 1, -1, 2, 2, 2])


def test_pack__round_trip(tmp_path: Path) -> None:
    given = samples()
    info = pack(tmp_path, "toy", given, CODES, ["a", "b"], image_size=(8, 6), resize="squash", channels=3)
    assert read_info(tmp_path) == info
    assert info.sizes == {"train": 6, "val": 2, "test": 3}
    rows = list(csv.DictReader((tmp_path / "samples.csv").read_text().splitlines()))
    assert {row["sample"] for row in rows} == {f"{index:02d}" for index in range(12)} - {"08"}
    test = open_split(tmp_path, "test")
    assert test.images.read().shape == (3, 8, 6, 3)
    assert test.ids.tolist() == [8, 9, 10]  # the unused sample has no id
    for number, label, pixels in zip(test.ids, test.labels, test.images.read(), strict=True):
        row = rows[number]
        assert (row["id"], row["split"], row["label"]) == (str(number), "test", "ab"[label])
        expected = given[int(row["sample"])].open().resize((6, 8), Image.Resampling.BICUBIC)
        assert np.array_equal(pixels, np.asarray(expected))
    train = open_split(tmp_path, "train").images.read() / 255
    np.testing.assert_allclose(info.mean, train.mean(axis=(0, 1, 2)))
    np.testing.assert_allclose(info.std, train.std(axis=(0, 1, 2)))


def test_pack__grey_has_one_channel_and_equal_statistics(tmp_path: Path) -> None:
    info = pack(tmp_path, "toy", samples(mode="L"), CODES, ["a", "b"], image_size=(8, 8), resize="crop", channels=1)
    assert open_split(tmp_path, "train").images.read().shape == (6, 8, 8, 1)
    assert len(set(info.mean)) == len(set(info.std)) == 1
    assert len(info.mean) == 3


def test_pack__crop_keeps_the_aspect_ratio(tmp_path: Path) -> None:
    tall = np.zeros((40, 20, 3), dtype=np.uint8)
    tall[10:30] = 255  # the middle square is white
    image = Image.fromarray(tall)
    given = [Sample(str(index), "ab"[index % 2], image.copy) for index in range(4)]
    pack(tmp_path, "toy", given, np.array([0, 0, 1, 2]), ["a", "b"], image_size=(20, 20), resize="crop", channels=3)
    assert (open_split(tmp_path, "train").images.read() == 255).all()


def test_split__notices_a_missing_chunk_and_a_flipped_bit(tmp_path: Path) -> None:
    pack(tmp_path, "toy", samples(), CODES, ["a", "b"], image_size=(8, 8), resize="squash", channels=3)
    (chunk,) = (path for path in (tmp_path / "images.zarr/train/images/c").rglob("*") if path.is_file())
    content = bytearray(chunk.read_bytes())
    content[5] ^= 1
    chunk.write_bytes(content)
    with pytest.raises(UserError, match="does not have the CRC32C"):
        open_split(tmp_path, "train").images.read()
    chunk.unlink()
    with pytest.raises(UserError, match="chunk is missing"):
        open_split(tmp_path, "train").images.read()


def test_check_classes__refuses_what_cannot_be_learned() -> None:
    with pytest.raises(UserError, match="only one class, 'a'"):
        check_classes(["a", "a"], np.array([0, 1]), ["a"])
    with pytest.raises(UserError, match=r"without a training image: \['b'\]"):
        check_classes(["a", "b", "a"], np.array([0, 1, 2]), ["a", "b"])
    with pytest.raises(UserError, match="split test has no images"):
        check_classes(["a", "b", "a"], np.array([0, 0, 1]), ["a", "b"])
