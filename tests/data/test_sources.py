"""Sources: what they hold, and what they say of a user's mistakes."""

from __future__ import annotations

import subprocess
import sys
from typing import get_args

import numpy as np

from kd.data.options import Task
from kd.data.sources import digits, glyphs, mnist5k
from kd.data.sources.base import SOURCES, load_source
from tests.conftest import ROOT


def test_registry__knows_every_source() -> None:
    expected = ["coco", "csv_manifest", "digits", "glyphs", "image_folder", "mnist5k", "nus_wide", "scenes", "voc"]
    expected += ["archive", "huggingface", "torchvision", "webdataset"]
    assert set(expected) <= set(SOURCES.names())
    for name in SOURCES.names():
        source = load_source(name)
        assert set(source.TASKS) <= set(get_args(Task))
        assert (len(source.TASKS) > 1) == ("task" in source.Options.model_fields)


HEAVY = ("numpy", "scipy", "PIL", "matplotlib", "sklearn", "mlxtend", "torch", "torchvision", "zarr", "pyarrow", "av")


def test_registry__importing_sources_is_cheap() -> None:
    code = f"""
import sys
from kd.data.sources.base import load_source, SOURCES
for name in SOURCES.names():
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
