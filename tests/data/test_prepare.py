"""The stage that packs datasets."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from kd.data.options import SplitOptions
from kd.data.packed import open_split, read_info
from kd.data.sources import image_folder, scenes
from kd.data.sources.registry import parse_source
from kd.forecast.artefacts import Forecaster
from kd.forecast.memory import Memory
from kd.jobs.errors import UserError
from kd.jobs.job import Job
from kd.jobs.manifest import load_manifest
from kd.jobs.run import Context
from kd.plan import Plan
from kd.stages import prepare_dataset
from tests.conftest import make
from tests.data.layouts import make_coco


def spec_of(root: Path) -> prepare_dataset.Spec:
    return prepare_dataset.Spec(
        name="toy",
        source={"type": "image_folder", "root": str(root)},
        fingerprint=image_folder.fingerprint(image_folder.Options(root=root)),
        image_size=(16, 16),
        resize="squash",
        task="single_label",
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


def multi_label_spec(source: dict[str, Any], split: SplitOptions) -> prepare_dataset.Spec:
    module, options = parse_source(source)
    return prepare_dataset.Spec(
        name="toy",
        source=source,
        fingerprint=module.fingerprint(options),
        image_size=(32, 32),
        resize="squash",
        task="multi_label",
        split=split,
    )


def test_prepare_dataset__of_scenes_holds_their_labels_and_is_as_large_as_forecast(tmp_path: Path) -> None:
    source = {"type": "scenes", "train": 60, "val": 10, "test": 20}
    spec = multi_label_spec(source, SplitOptions(train=40))
    job = Job.make(
        tmp_path, "prepare_dataset", "toy", spec=spec.model_dump(mode="json"), code={"x": "0" * 16}, upstream={}
    )
    expected = Forecaster(cast("Plan", None), Memory(tmp_path)).size(job)
    make(job)
    manifest = load_manifest(job.directory)
    assert manifest is not None
    assert expected.bytes == pytest.approx(manifest["bytes"], rel=0.01)
    assert expected.files == len(manifest["files"])
    info = read_info(job.directory)
    assert (info.task, info.classes) == ("multi_label", tuple("0123456789"))
    assert info.sizes == {"train": 40, "val": 10, "test": 20}
    shown = {sample.id: sample.labels for sample in scenes.read(scenes.Options(train=60, val=10, test=20)).samples}
    rows = [line.split(",") for line in (job.directory / "samples.csv").read_text().splitlines()[1:]]
    for name in ("train", "val", "test"):
        split = open_split(job.directory, name)
        assert split.images.row_shape == (32, 32, 1)
        for number, labels in zip(split.ids, split.labels, strict=True):
            _, sample, cell, _ = rows[number]
            assert tuple(np.array(info.classes)[labels == 1]) == shown[sample] == tuple(cell.split("|"))


def test_prepare_dataset__official_classes_are_outputs_even_if_nothing_shows_them(tmp_path: Path) -> None:
    """Of the 80 of COCO, three are shown here."""
    root = make_coco(tmp_path / "coco")
    selection = prepare_dataset.select(
        multi_label_spec({"type": "coco", "root": str(root)}, SplitOptions(train=2, val=1))
    )
    assert len(selection.classes) == 80
    assert selection.classes == sorted(selection.classes)
    assert (
        selection.notes["classes without an image in train (airplane, apple, backpack, banana, baseball bat, …)"] == 77
    )
