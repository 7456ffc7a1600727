"""Sources: what they hold, and what they say of a user's mistakes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kd.data.sources import csv_manifest, digits, glyphs, image_folder, mnist5k
from kd.data.sources.listing import open_image
from kd.data.sources.registry import load_source, source_names
from kd.jobs.errors import UserError


def picture(path: Path, value: int = 100) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((10, 12, 3), value, dtype=np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for label in ("cat", "dog"):
        for number in range(3):
            picture(tmp_path / "pictures" / label / f"{number}.png", 10 * number)
    return tmp_path / "pictures"


def test_registry__knows_every_source() -> None:
    assert source_names() == ["csv_manifest", "digits", "glyphs", "image_folder", "mnist5k"]
    for name in source_names():
        assert load_source(name).Options is not None


def test_digits_and_mnist5k__hold_real_digits() -> None:
    small, large = digits.samples(digits.Options()), mnist5k.samples(mnist5k.Options())
    assert (len(small), len(large)) == (1797, 5000)
    assert {sample.label for sample in small + large} == set("0123456789")
    assert small[0].open().size == (8, 8)
    assert large[0].open().size == (28, 28)
    assert np.asarray(small[0].open()).max() > 200


def test_glyphs__no_font_is_in_two_splits() -> None:
    samples = glyphs.samples(glyphs.Options())
    fonts = {split: {sample.id.split("/")[0] for sample in samples if sample.split == split} for split in glyphs.FONTS}
    assert not fonts["train"] & fonts["val"]
    assert not fonts["train"] & fonts["test"]
    assert not fonts["val"] & fonts["test"]
    assert len({sample.label for sample in samples}) == 26
    assert len({sample.id for sample in samples}) == len(samples)
    drawn = [np.asarray(sample.open()) for sample in samples[::97]]
    assert all(10 < image.astype(int).sum() / 255 < 500 for image in drawn)  # some ink, not all ink


def test_image_folder__classes_are_folders(folder: Path) -> None:
    (folder / "cat" / "notes.txt").write_text("not a picture")
    (folder / "cat" / ".hidden.png").write_text("not a picture")
    samples = image_folder.samples(image_folder.Options(root=folder))
    expected = [f"{label}/{number}.png" for label in ("cat", "dog") for number in range(3)]
    assert sorted(sample.id for sample in samples) == expected
    assert all(sample.split is None and sample.label == sample.id.split("/")[0] for sample in samples)


def test_image_folder__split_folders_are_splits(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        picture(tmp_path / split / "a" / "0.png")
    samples = image_folder.samples(image_folder.Options(root=tmp_path))
    assert {(sample.id, sample.split) for sample in samples} == {
        (f"{split}/a/0.png", split) for split in ("train", "val", "test")
    }


def test_image_folder__fingerprint_follows_content_not_order(folder: Path, tmp_path: Path) -> None:
    options = image_folder.Options(root=folder)
    before = image_folder.fingerprint(options)
    copy = tmp_path / "copy"
    for path in sorted(folder.rglob("*.png"), reverse=True):
        target = copy / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    assert image_folder.fingerprint(image_folder.Options(root=copy)) == before
    os.utime(folder / "cat" / "0.png", (1, 1))
    assert image_folder.fingerprint(options) != before


def test_image_folder__validation_is_val_and_other_folders_beside_train_are_refused(tmp_path: Path) -> None:
    for split in ("train", "validation", "test"):
        picture(tmp_path / split / "a" / "0.png")
    samples = image_folder.samples(image_folder.Options(root=tmp_path))
    assert {sample.split for sample in samples} == {"train", "val", "test"}
    picture(tmp_path / "extra" / "a" / "0.png")
    with pytest.raises(UserError, match=r"has a folder train, so \['extra'\] beside it should be val or test"):
        image_folder.fingerprint(image_folder.Options(root=tmp_path))


def test_open_image__scales_sixteen_bits_to_eight(tmp_path: Path) -> None:
    values = np.array([[0, 16000, 32000, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    assert np.asarray(open_image(tmp_path / "deep.png")).tolist() == [[0, 62, 125, 255]]
    Image.fromarray(np.zeros((2, 2), dtype=np.float32)).save(tmp_path / "float.tiff")
    with pytest.raises(UserError, match="pixels of mode F, whose range is unknown"):
        open_image(tmp_path / "float.tiff")


def test_image_folder__mistakes(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere is not a folder"):
        image_folder.fingerprint(image_folder.Options(root=tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no class folders"):
        image_folder.fingerprint(image_folder.Options(root=tmp_path / "empty"))
    (folder / "fox").mkdir()
    with pytest.raises(UserError, match=r"class folder .*fox holds no images"):
        image_folder.fingerprint(image_folder.Options(root=folder))


def test_open_image__names_the_damaged_file(folder: Path) -> None:
    text = folder / "cat" / "text.png"
    text.write_text("this is no picture")
    cut = folder / "cat" / "cut.png"
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(cut)
    cut.write_bytes(cut.read_bytes()[:2000])
    by_id = {sample.id: sample for sample in image_folder.samples(image_folder.Options(root=folder))}
    with pytest.raises(UserError, match=r"text\.png: is not an image"):
        by_id["cat/text.png"].open()
    with pytest.raises(UserError, match=r"cut\.png: damaged image"):
        by_id["cat/cut.png"].open()


def manifest(path: Path, text: str) -> csv_manifest.Options:
    path.write_bytes(text.encode(errors="surrogateescape"))
    return csv_manifest.Options(csv=path)


def test_csv_manifest__rows_are_samples(folder: Path) -> None:
    options = manifest(folder / "list.csv", "path,label,split\ncat/0.png,feline,train\ndog/1.png,canine,test\n")
    samples = csv_manifest.samples(options)
    assert [(each.id, each.label, each.split) for each in samples] == [
        ("cat/0.png", "feline", "train"),
        ("dog/1.png", "canine", "test"),
    ]
    assert samples[0].open().size == (12, 10)
    without = manifest(folder / "short.csv", "path,label\ncat/0.png,feline\n")
    assert csv_manifest.samples(without)[0].split is None
    assert csv_manifest.fingerprint(options) != csv_manifest.fingerprint(without)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,class\ncat/0.png,a\n", "has no column 'label'"),
        ("path,label\n", "has a header but no rows"),
        ("path,label\ncat/0.png,\n", "line 2: column 'label' is empty"),
        ("path,label,split\ncat/0.png,a,training\n", "line 2: split is 'training', expected one of"),
        ("path,label\ncat/0.png,a\ncat/0.png,b\n", "line 3: cat/0.png is listed twice"),
        ("path,label\ncat/9.png,a\n", r"cat/9.png: no such image file"),
        ("path,label\ncat/\udcff.png,a\n", "is not a CSV file in UTF-8"),
    ],
)
def test_csv_manifest__mistakes(folder: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        csv_manifest.fingerprint(manifest(folder / "list.csv", text))


def test_csv_manifest__missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a file"):
        csv_manifest.fingerprint(csv_manifest.Options(csv=tmp_path / "none.csv"))
