"""The stage that packs datasets."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kd.data.options import SplitOptions
from kd.data.packed import open_split
from kd.data.sources import image_folder
from kd.jobs.errors import UserError
from kd.jobs.run import Context
from kd.stages import prepare_dataset


def spec_of(root: Path) -> prepare_dataset.Spec:
    return prepare_dataset.Spec(
        name="toy",
        source={"type": "image_folder", "root": str(root)},
        fingerprint=image_folder.fingerprint(image_folder.Options(root=root)),
        image_size=(16, 16),
        resize="squash",
        split=SplitOptions(),
    )


def prepare(root: Path, directory: Path) -> None:
    directory.mkdir()
    prepare_dataset.build(Context(spec_of(root), {}, directory))


def test_prepare_dataset__another_order_of_files_on_disk_gives_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(0)
    first, second = tmp_path / "first", tmp_path / "second"
    for label in "ab":
        (first / label).mkdir(parents=True)
        for number in range(10):
            pixels = generator.integers(0, 256, (20, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(first / label / f"{number}.png")
    files = sorted(first.rglob("*.png"))
    for path in generator.permutation(np.array(files, dtype=object)):
        target = second / path.relative_to(first)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    prepare(first, tmp_path / "first_packed")
    listed = {name: getattr(Path, name) for name in ("rglob", "iterdir")}

    def backwards(name: str) -> None:
        def listing(self: Path, *arguments: str) -> Iterator[Path]:
            return iter(sorted(listed[name](self, *arguments), reverse=True))

        monkeypatch.setattr(Path, name, listing)

    for name in listed:
        backwards(name)
    prepare(second, tmp_path / "second_packed")
    monkeypatch.undo()
    for name in ("train", "val", "test"):
        one, other = (open_split(tmp_path / f"{root.name}_packed", name) for root in (first, second))
        assert np.array_equal(one.images.read(), other.images.read())
        assert np.array_equal(one.labels, other.labels)
        assert np.array_equal(one.ids, other.ids)
    samples = [(tmp_path / f"{root.name}_packed/samples.csv").read_text() for root in (first, second)]
    assert samples[0] == samples[1]


def test_prepare_dataset__refuses_files_that_changed_after_planning(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8, 3), dtype=np.uint8)
    for label in "ab":
        (tmp_path / "root" / label).mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / "root" / label / "0.png")
    root = tmp_path / "root"
    spec = spec_of(root)
    Image.fromarray(pixels).save(root / "a" / "1.png")
    with pytest.raises(UserError, match=r"datasets\.toy: its files have changed since this run was planned"):
        prepare_dataset.build(Context(spec, {}, tmp_path))
