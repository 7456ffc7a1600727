"""The stage that packs datasets."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from kd.artefacts.job import Job
from kd.artefacts.manifest import load_manifest
from kd.common.errors import UserError
from kd.config.load import load_config
from kd.data.decoding import REDUCED
from kd.data.options import SplitOptions
from kd.data.packed import STORE, open_split, read_info
from kd.data.packing import CHANGES
from kd.data.sources import image_folder, scenes
from kd.data.sources.base import parse_source
from kd.data.sources.files import HIDDEN, image_of
from kd.data.storage import RowArray
from kd.jobs.run import Context
from kd.planning.forecast import Forecast
from kd.planning.plan import Plan
from kd.stages import prepare_dataset
from tests.conftest import make
from tests.data.layouts import draw_image, make_coco


def spec_of(root: Path) -> prepare_dataset.Spec:
    return prepare_dataset.Spec(
        name="toy",
        source={"type": "image_folder", "root": str(root)},
        fingerprint=image_folder.fingerprint(image_folder.Options(root=root)),
        modality="image",
        sample={"image_size": (16, 16)},
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


def job_of(root: Path, results: Path, **changes: Any) -> Job:
    sample = {"image_size": (16, 16)} | {name: changes.pop(name) for name in ("ground",) if name in changes}
    spec = spec_of(root).model_copy(update=changes | {"sample": sample}).model_dump(mode="json")
    return Job.make(results, "prepare_dataset", "toy", spec=spec, code={"x": "0" * 16}, upstream={})


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """40 images of two classes: every third is transparent, every fourth has 16 bits; two files are no images."""
    rng = np.random.default_rng(0)
    for number in range(40):
        path = tmp_path / "mixed" / "ab"[number % 2] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number % 4 == 0:
            Image.fromarray(rng.integers(0, 2**16, (16, 16), dtype=np.uint16)).save(path)
        else:
            pixels = rng.integers(0, 255, (16, 16, 4), dtype=np.uint8)
            Image.fromarray(pixels).convert("RGBA" if number % 3 == 0 else "RGB").save(path)
    (tmp_path / "mixed" / "a" / "notes.txt").touch()
    (tmp_path / "mixed" / "b" / ".DS_Store").touch()
    return tmp_path / "mixed"


def test_prepare_dataset__that_was_killed_goes_on_and_has_the_notes_of_an_undisturbed_one(
    tmp_path: Path, mixed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed as each chunk in turn is stored; what is stored is not decoded again."""
    monkeypatch.setattr("kd.data.storage.CHUNK_ROWS", 8)
    undisturbed, killed = (job_of(mixed, tmp_path / name) for name in ("undisturbed", "killed"))
    make(undisturbed)
    write, opened, chunks = RowArray.write, [], 0

    def cut_off(self: RowArray, rows: slice, values: np.ndarray, view: int = 0) -> None:
        nonlocal chunks
        chunks += self.path.name == "images"
        if chunks == 2:
            raise KeyboardInterrupt
        write(self, rows, values, view)

    def counted(content: bytes, name: str) -> Image.Image:
        opened.append(name)
        return image_of(content, name)

    monkeypatch.setattr(RowArray, "write", cut_off)
    monkeypatch.setattr("kd.data.sources.files.image_of", counted)
    for _ in range(5):
        chunks = 0
        with pytest.raises(KeyboardInterrupt):
            make(killed)
        with (killed.directory / STORE / CHANGES).open("a") as stream:
            stream.write('\n["train", 8, {"images')  # a kill can also cut off the line
    chunks = -9
    make(killed)
    assert 40 <= len(opened) <= 40 + 5 * 16  # the chunk that was cut off, and the next one, begun ahead
    manifests = [load_manifest(job.directory) for job in (undisturbed, killed)]
    assert manifests[0] is not None
    assert manifests[1] is not None
    assert manifests[0]["result"] == manifests[1]["result"]
    assert manifests[0]["files"] == manifests[1]["files"]
    assert manifests[0]["result"]["notes"] == {
        REDUCED: 10,
        "images with transparency laid on white": 10,
        HIDDEN: 1,
        "files that are no images by their names left out (.txt)": 1,
    }


def test_prepare_dataset__says_which_classes_val_or_test_lack_before_anything_is_packed(tmp_path: Path) -> None:
    root, results = tmp_path / "root", tmp_path / "results"
    for label, count in (("cat", 12), ("dog", 2)):
        for number in range(count):
            draw_image(root / label / f"{number}.png", 10 * number)
    job = job_of(root, results, ground=(0, 0, 0))
    expected = {"classes without a sample in val (dog)": 1, "classes without a sample in test (dog)": 1}
    assert prepare_dataset.select(prepare_dataset.Spec.model_validate(job.spec)).notes == expected
    before = Forecast(cast("Plan", SimpleNamespace(config=None, stage=lambda _: [job]))).dataset("toy")
    make(job)
    manifest = load_manifest(job.directory)
    assert manifest is not None
    assert expected.items() <= manifest["result"]["notes"].items()
    assert before.samples.model_dump()["ground"] == read_info(job.directory).samples.model_dump()["ground"] == (0, 0, 0)
    assert before.sizes == read_info(job.directory).sizes


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("ground", "red", r"ground: expected white, black, or \[red, green, blue\] .* given: 'red'"),
        ("ground", [1, 2], "ground: expected white"),
        ("ground", [0, 0, 256], "ground: expected white"),
        ("split", {"seed": -1}, "split.seed: input should be greater than or equal to 0; given: -1"),
        ("source", {"type": "scenes", "seed": -1}, "seed: input should be greater than or equal to 0"),
        ("source", {"type": "image_folder", "root": "x", "split_folders": "some"}, "expected yes, no or auto"),
    ],
)
def test_options__mistakes(tiny: dict[str, Any], key: str, value: Any, said: str) -> None:
    tiny["datasets"]["digits"][key] = value
    if value == {"type": "scenes", "seed": -1}:
        tiny["datasets"]["digits"]["task"] = "multi_label"
    with pytest.raises(UserError, match=rf"datasets.digits.*{said}"):
        load_config(tiny)


def multi_label_spec(source: dict[str, Any], split: SplitOptions) -> prepare_dataset.Spec:
    module, options = parse_source(source)
    return prepare_dataset.Spec(
        name="toy",
        source=source,
        fingerprint=module.fingerprint(options),
        modality="image",
        sample={"image_size": (32, 32)},
        task="multi_label",
        split=split,
    )


def test_prepare_dataset__of_scenes_holds_their_labels_and_is_as_large_as_forecast(tmp_path: Path) -> None:
    source = {"type": "scenes", "train": 60, "val": 10, "test": 20}
    spec = multi_label_spec(source, SplitOptions(train=40))
    job = Job.make(
        tmp_path, "prepare_dataset", "toy", spec=spec.model_dump(mode="json"), code={"x": "0" * 16}, upstream={}
    )
    expected = Forecast(cast("Plan", SimpleNamespace(config=None, stage=lambda _: [job]))).size(job)
    make(job)
    manifest = load_manifest(job.directory)
    assert manifest is not None
    small = sum(record["bytes"] for record in manifest["files"] if record["path"].endswith((".json", ".csv")))
    assert expected.bytes == pytest.approx(manifest["bytes"] - small, rel=0.01)
    assert expected.files == pytest.approx(2 + len(list(job.directory.rglob("*"))), abs=4)
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
        selection.notes["classes without a sample in train (airplane, apple, backpack, banana, baseball bat, …)"] == 77
    )
