"""Sources: what they hold, and what they say of a user's mistakes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from kd.data.options import Task
from kd.data.sources import digits, glyphs, image_folder, mnist5k
from kd.data.sources.listing import open_image
from kd.data.sources.registry import load_source, source_names
from kd.jobs.errors import UserError
from tests.conftest import ROOT
from tests.data.layouts import picture


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for label in ("cat", "dog"):
        for number in range(3):
            picture(tmp_path / "pictures" / label / f"{number}.png", 10 * number)
    return tmp_path / "pictures"


def test_registry__knows_every_source() -> None:
    expected = ["coco", "csv_manifest", "digits", "glyphs", "image_folder", "mnist5k", "nus_wide", "scenes", "voc"]
    assert source_names() == expected
    for name in source_names():
        source = load_source(name)
        assert set(source.TASKS) <= set(get_args(Task))
        assert (len(source.TASKS) > 1) == ("task" in source.Options.model_fields)


HEAVY = ("numpy", "PIL", "matplotlib", "sklearn", "mlxtend", "torch", "zarr")


def test_registry__importing_sources_is_cheap() -> None:
    code = f"""
import sys
from kd.data.sources.registry import load_source, source_names
for name in source_names():
    load_source(name)
print([name for name in {HEAVY} if name in sys.modules])
"""
    seen = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "[]"


def test_digits_and_mnist5k__hold_real_digits() -> None:
    small, large = digits.read(digits.Options()).samples, mnist5k.read(mnist5k.Options()).samples
    assert (len(small), len(large)) == (1797, 5000)
    assert {sample.labels for sample in small + large} == {(digit,) for digit in "0123456789"}
    assert small[0].open().size == (8, 8)
    assert large[0].open().size == (28, 28)
    assert np.asarray(small[0].open()).max() > 200


def test_glyphs__no_font_is_in_two_splits() -> None:
    samples = glyphs.read(glyphs.Options()).samples
    fonts = {split: {sample.id.split("/")[0] for sample in samples if sample.split == split} for split in glyphs.FONTS}
    assert not fonts["train"] & fonts["val"]
    assert not fonts["train"] & fonts["test"]
    assert not fonts["val"] & fonts["test"]
    assert len({sample.labels for sample in samples}) == 26
    assert len({sample.id for sample in samples}) == len(samples)
    drawn = [np.asarray(sample.open()) for sample in samples[::97]]
    assert all(10 < image.astype(int).sum() / 255 < 500 for image in drawn)  # some ink, not all ink


def test_image_folder__classes_are_folders(folder: Path) -> None:
    (folder / "cat" / "notes.txt").write_text("not a picture")
    (folder / "cat" / ".hidden.png").write_text("not a picture")
    samples = image_folder.read(image_folder.Options(root=folder)).samples
    expected = [f"{label}/{number}.png" for label in ("cat", "dog") for number in range(3)]
    assert sorted(sample.id for sample in samples) == expected
    assert all(sample.split is None and sample.labels == (sample.id.split("/")[0],) for sample in samples)


def test_image_folder__split_folders_are_splits(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        picture(tmp_path / split / "a" / "0.png")
    samples = image_folder.read(image_folder.Options(root=tmp_path)).samples
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
    samples = image_folder.read(image_folder.Options(root=tmp_path)).samples
    assert {sample.split for sample in samples} == {"train", "val", "test"}
    picture(tmp_path / "extra" / "a" / "0.png")
    with pytest.raises(UserError, match=r"for splits and beside it \['extra'\]; expected only folders such as train, val"):
        image_folder.fingerprint(image_folder.Options(root=tmp_path))


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
    by_id = {sample.id: sample for sample in image_folder.read(image_folder.Options(root=folder)).samples}
    with pytest.raises(UserError, match=r"text\.png: is not an image"):
        by_id["cat/text.png"].open()
    with pytest.raises(UserError, match=r"cut\.png: damaged image"):
        by_id["cat/cut.png"].open()
