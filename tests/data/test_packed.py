"""Packed datasets hold what the source held, and notice damage."""

from __future__ import annotations

import csv
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from PIL import Image

from kd.common.errors import UserError
from kd.data.modalities.image import Samples
from kd.data.packed import DatasetInfo, open_split, read_info
from kd.data.packing import REPEATED, check_classes, decoders, encode_labels, pack
from kd.data.sources.base import Sample
from kd.data.storage import FORMAT, open_group


def samples(count: int = 12, mode: str = "RGB") -> list[Sample]:
    generator = np.random.default_rng(0)
    shape = (20, 10, 3) if mode == "RGB" else (20, 10)
    images = [Image.fromarray(generator.integers(0, 256, shape, dtype=np.uint8)) for _ in range(count)]
    return [Sample(f"{index:02d}", ("ab"[index % 2],), images[index].copy) for index in range(count)]


CODES = np.array([0, 0, 0, 0, 0, 0, 1, 1, -1, 2, 2, 2])


def packed(directory: Path, given: list[Sample], codes: np.ndarray = CODES, **changes: Any) -> DatasetInfo:
    return whole(directory, given, codes, **changes)[0]


def whole(
    directory: Path, given: list[Sample], codes: np.ndarray = CODES, **changes: Any
) -> tuple[DatasetInfo, dict[str, int]]:
    modality = Samples.model_validate(
        {"image_size": (8, 8)} | {name: changes.pop(name) for name in Samples.model_fields if name in changes}
    )
    options: dict[str, Any] = {"task": "single_label", "modality": modality, "channels": 3}
    return pack(directory, "toy", given, codes, ["a", "b"], **(options | changes))


def test_pack__round_trip(tmp_path: Path) -> None:
    given = samples()
    info = packed(tmp_path, given, image_size=(12, 8))
    assert read_info(tmp_path) == info
    assert info.sizes == {"train": 6, "val": 2, "test": 3}
    rows = list(csv.DictReader((tmp_path / "samples.csv").read_text().splitlines()))
    assert {row["sample"] for row in rows} == {f"{index:02d}" for index in range(12)} - {"08"}
    test = open_split(tmp_path, "test")
    assert test.images.read().shape == (3, 12, 8, 3)
    assert test.ids.tolist() == [8, 9, 10]  # the unused sample has no id
    for number, label, pixels in zip(test.ids, test.labels, test.images.read(), strict=True):
        row = rows[number]
        assert (row["id"], row["split"], row["label"]) == (str(number), "test", "ab"[label])
        expected = given[int(row["sample"])].open().resize((8, 12), Image.Resampling.BICUBIC)
        assert np.array_equal(pixels, np.asarray(expected))
    train = open_split(tmp_path, "train").images.read() / 255
    np.testing.assert_allclose(info.mean, train.mean(axis=(0, 1, 2)))
    np.testing.assert_allclose(info.std, train.std(axis=(0, 1, 2)))


def test_pack__grey_has_one_channel_and_equal_statistics(tmp_path: Path) -> None:
    info = packed(tmp_path, samples(mode="L"), resize="crop", channels=1)
    assert open_split(tmp_path, "train").images.read().shape == (6, 8, 8, 1)
    assert len(set(info.mean)) == len(set(info.std)) == 1
    assert len(info.mean) == 3


def test_pack__crop_keeps_the_aspect_ratio(tmp_path: Path) -> None:
    tall = np.zeros((40, 20, 3), dtype=np.uint8)
    tall[10:30] = 255  # the middle square is white
    image = Image.fromarray(tall)
    given = [Sample(str(index), ("ab"[index % 2],), image.copy) for index in range(4)]
    packed(tmp_path, given, np.array([0, 0, 1, 2]), image_size=(20, 20), resize="crop")
    assert (open_split(tmp_path, "train").images.read() == 255).all()


def test_pack__outside_a_job_replaces_what_was_packed_before(tmp_path: Path) -> None:
    """Ids, labels and splits are the same; only the pixels differ."""
    packed(tmp_path, samples())
    other = [replace(each, open=Image.new("RGB", (8, 8), "green").copy) for each in samples()]
    packed(tmp_path, other)
    assert (open_split(tmp_path, "train").images.read() == (0, 128, 0)).all()


def test_pack__lays_transparent_images_on_the_ground(tmp_path: Path) -> None:
    clear = [replace(each, open=Image.new("RGBA", (8, 8), (9, 9, 9, 0)).copy) for each in samples()]
    given = [clear[0], *samples()[1:4], *clear[4:6], *samples()[6:]]
    for ground, said in (((255, 255, 255), "white"), ((1, 2, 3), "(1, 2, 3)")):
        info, notes = whole(tmp_path, given, ground=ground)
        assert info.samples == read_info(tmp_path).samples
        assert info.samples.model_dump()["ground"] == ground
        assert notes == {f"images with transparency laid on {said}": 3}
        train = open_split(tmp_path, "train").images.read()
        assert (train == ground).all(axis=(1, 2, 3)).sum() == 3


def test_pack__says_which_images_are_in_two_splits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The image of 00 (train) also stands as 06 (val) and 10 (test), that of 01 only in train, and 08 is left out."""
    first = samples()
    copies = {1: 2, 6: 0, 8: 0, 10: 0}
    given = [replace(each, open=first[copies.get(number, number)].open) for number, each in enumerate(first)]
    assert whole(tmp_path, given)[1] == {REPEATED: 2}
    assert "2, such as 00 (train) and 06 (val)" in caplog.text
    assert whole(tmp_path, first)[1] == {}


def test_decoders__are_the_cores_that_the_job_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    for wanted, expected in (("2", 2), ("64", 3), ("0", 1), ("", 3)):
        monkeypatch.setenv("OMP_NUM_THREADS", wanted)
        assert decoders() == expected


def test_split__notices_a_missing_chunk_and_a_flipped_bit(tmp_path: Path) -> None:
    packed(tmp_path, samples())
    (chunk,) = (tmp_path / "images.zarr/train/images").glob("c.*")
    content = bytearray(chunk.read_bytes())
    content[5] ^= 1
    chunk.write_bytes(content)
    with pytest.raises(UserError, match="does not have the CRC32C"):
        open_split(tmp_path, "train").images.read()
    chunk.unlink()
    with pytest.raises(UserError, match="chunk is missing"):
        open_split(tmp_path, "train").images.read()


def test_pack__labels_of_a_multi_label_dataset_are_zeros_and_ones(tmp_path: Path) -> None:
    """Also a sample without labels, and one with all."""
    shown: list[tuple[str, ...]] = [("a", "b"), (), ("b",)]
    given = [replace(sample, labels=shown[index % 3]) for index, sample in enumerate(samples())]
    info = packed(tmp_path, given, task="multi_label")
    assert info.task == read_info(tmp_path).task == "multi_label"
    rows = list(csv.DictReader((tmp_path / "samples.csv").read_text().splitlines()))
    for name in ("train", "val", "test"):
        split = open_split(tmp_path, name)
        assert split.labels.dtype == np.uint8
        assert split.labels.shape == (info.sizes[name], 2)
        for number, labels in zip(split.ids, split.labels, strict=True):
            expected = shown[int(rows[number]["sample"]) % 3]
            assert rows[number]["label"] == "|".join(expected)
            assert labels.tolist() == ["a" in expected, "b" in expected]


def test_encode_labels__single_label_wants_one() -> None:
    given = [replace(sample, labels=("a", "b")) for sample in samples(1)]
    with pytest.raises(UserError, match=r"00: labels are \['a', 'b'\], expected exactly one \(single_label\)"):
        encode_labels(given, ["a", "b"], "single_label")


def test_check_classes__refuses_what_cannot_be_learned() -> None:
    with pytest.raises(UserError, match=r"expected at least two classes, found \['a'\]"):
        check_classes(np.array([0, 0]), np.array([0, 1]), ["a"], listed=False)
    with pytest.raises(UserError, match=r"without a training sample: \['b'\]"):
        check_classes(np.array([0, 1, 0]), np.array([0, 1, 2]), ["a", "b"], listed=True)
    with pytest.raises(UserError, match=r"split test has no samples; say a size for split.test, or smaller ones"):
        check_classes(np.array([0, 1, 0]), np.array([0, 0, 1]), ["a", "b"], listed=False)


def test_check_classes__only_listed_classes_may_lack_positives() -> None:
    labels, codes = np.array([[1, 0], [0, 1], [1, 1]], dtype=np.uint8), np.array([0, 1, 2])
    with pytest.raises(UserError, match=r"without a training sample: \['b'\]"):
        check_classes(labels, codes, ["a", "b"], listed=False)
    notes = check_classes(labels, codes, ["a", "b"], listed=True)
    assert notes == {"classes without a sample in train (b)": 1, "classes without a sample in val (a)": 1}
    with pytest.raises(UserError, match=r"class 'b\|c' holds '\|'"):
        check_classes(labels, codes, ["a", "b|c"], listed=True)


@pytest.mark.parametrize(("found", "remedy"), [(FORMAT - 1, "delete .* and run again"), (FORMAT + 1, "update kd")])
def test_open_group__refuses_other_formats(tmp_path: Path, found: int, remedy: str) -> None:
    zarr.open_group(tmp_path / "images.zarr", mode="w").attrs.update({"format": found})
    with pytest.raises(UserError, match=f"images.zarr: has format {found}, .* reads format {FORMAT}; {remedy}"):
        open_group(tmp_path / "images.zarr")
