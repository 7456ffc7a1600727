"""Clips in the chain: the cache holds what the live teacher says, `predict` takes videos, configs fit together."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from kd.cli.verify import verify
from kd.common.errors import UserError
from kd.config.load import load_config
from kd.data.modalities.base import plain, views_of
from kd.data.modalities.clip import Samples
from kd.data.options import Augmentation
from kd.data.packed import open_split
from kd.data.packing import pack
from kd.data.sources.base import Sample
from kd.data.video import FEWER, Video
from kd.embeddings import computing
from kd.embeddings.options import CacheOptions
from kd.embeddings.store import open_columns
from kd.jobs.run import Context
from kd.models.network import freeze
from kd.models.prediction import predict_files
from kd.models.spec import LEVELS, ModelSpec
from kd.models.weights import Exported, export_student, load_network, new_network, save_network
from kd.planning.plan import Plan
from kd.stages import cache_embeddings
from tests.conftest import make
from tests.data.videos import flat, noisy, write_video
from tests.models import squares

CLIPS = Samples.model_validate(
    {"image_size": 24, "store_size": 32, "segments": 4, "candidates": 2, "test_clips": 2, "test_crops": 3}
)
MOVING = {"zero_init_last": False}  # so that residual branches, and what shifts in them, do something
SHAKE = Augmentation(rotation=15, flip=0.5, translate=0.1, contrast=0.3)


def pack_clips(directory: Path, samples: list[Sample], codes: np.ndarray) -> None:
    classes = sorted({each.labels[0] for each in samples})
    pack(directory, "clips", samples, codes, classes, task="single_label", modality=CLIPS, channels=3)


@pytest.mark.parametrize("backbone", ["tsn", "tsm"])
def test_cache__equals_the_live_teacher(backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where so few clips are computed together as these large ones are."""
    monkeypatch.setattr(computing, "BATCH_BYTES", 100_000)
    dataset, teacher, store = (tmp_path / name for name in ("dataset", "teacher", "store"))
    for path in (dataset, teacher, store):
        path.mkdir()
    samples = squares.read(squares.Options(count=6)).samples
    pack_clips(dataset, samples, np.arange(len(samples)) % 3)
    train = open_split(dataset, "train")
    assert computing._rows_within(train.images.row_bytes) == 2
    torch.manual_seed(0)
    save_network(
        new_network(ModelSpec(backbone=backbone, architecture="test_resnet", kwargs=MOVING), [train.info]), teacher
    )
    spec = cache_embeddings.Spec(
        dataset="clips", arrays=list(LEVELS), views=2, augmentation=SHAKE, cache=CacheOptions(), seed=4
    )
    cache_embeddings.build(Context(spec, {"teacher": teacher, "dataset": dataset}, store))
    live = freeze(load_network(teacher))
    views = views_of(train.info.samples, "shared", "clips", 4, SHAKE)
    for name, view in (("train", 0), ("train", 1), ("val", 0), ("test", 0)):
        split = open_split(dataset, name)
        rows = np.random.default_rng(0).permutation(len(split.ids))[:5]  # other batch, other order
        stored = torch.from_numpy(split.images.read()[rows])
        seen = views(stored, split.ids[rows], view) if name == "train" else plain(CLIPS, stored)
        assert seen.shape[1] == (4 if name == "train" else 4 * 2 * 3)
        expected = live(seen, LEVELS).arrays("clips")
        cached = open_columns(store, split, LEVELS)
        for level in LEVELS:
            found = cached[level].read(slice(0, len(split.ids)), view)[rows].float()
            torch.testing.assert_close(found, expected[level], rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("backbone", ["tsn", "tsm"])
def test_predict__takes_videos_as_the_test_split_has_them(
    backbone: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    samples = []
    for number in range(6):
        frames = [np.roll(np.tile(each[:, :, :1], 3) + np.arange(64)[:, None], number * 9, axis=1) for each in flat(9)]
        path = write_video(videos, [each.astype(np.uint8) for each in frames], "mpeg4", name=f"v{number}")
        samples.append(Sample(path.name, ("ab"[number % 2],), partial(Video, path)))
    pack_clips(tmp_path, samples, np.array([0, 0, 1, 1, 2, 2]))
    split = open_split(tmp_path, "test")
    torch.manual_seed(0)
    network = new_network(ModelSpec(backbone=backbone, architecture="test_resnet", kwargs=MOVING), [split.info])
    save_network(network, tmp_path)
    export_student(network, split.info, tmp_path)
    with torch.inference_mode():
        logits = Exported(load_network(tmp_path), "clips").eval()(plain(CLIPS, torch.from_numpy(split.images.read())))
    (videos / "broken.avi").write_bytes(b"RIFF")
    (videos / "notes.txt").write_text("no video")
    found = dict(predict_files(tmp_path, videos, 2))
    assert sorted(path.name for path in found) == ["broken.avi", *(f"v{number}.avi" for number in range(6))]
    assert isinstance(found.pop(videos / "broken.avi"), UserError)
    names = [
        line.split(",")[1] for line in (tmp_path / "samples.csv").read_text().splitlines() if line.endswith("test")
    ]
    for name, row in zip(names, logits.softmax(dim=1).tolist(), strict=True):
        classes = found[videos / name]
        assert not isinstance(classes, UserError)
        assert [dict(classes)[each] for each in "ab"] == pytest.approx(row, abs=1e-6)
    assert [each.getMessage() for each in caplog.records if each.levelname != "INFO"] == []
    ((_, alone),) = predict_files(tmp_path, videos / "v5.avi", 2)
    assert alone == found[videos / "v5.avi"]
    path = write_video(videos, noisy(50), "mpeg4", name="cut")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    ((_, cut),) = predict_files(tmp_path, path, 2)
    assert not isinstance(cut, UserError)
    assert f"cut.avi: {FEWER}" in caplog.text
    (videos / "empty").mkdir()
    with pytest.raises(UserError, match="holds no videos"):
        list(predict_files(tmp_path, videos / "empty", 2))


CONFIG = """
datasets:
  near: {source: {type: tests.models.squares}, image_size: 32, segments: 4}
  far: {source: {type: tests.models.squares, count: 20}, image_size: 32, segments: 4}
  digits: {source: {type: digits}, image_size: 32}
models:
  tsn: {backbone: tsn, architecture: test_resnet}
  tsm: {backbone: tsm, architecture: test_resnet}
  image: {architecture: test_resnet}
recipes:
  r: {lr: 0.01, epochs: 2, batch_size: 32}
teachers:
  near: {dataset: near, model: tsn, recipe: r}
  far: {dataset: far, model: tsm, recipe: r}
  digits: {dataset: digits, model: image, recipe: r}
joint_teachers:
  both: {level: L2, teachers: [near, far], targets: [near, far], recipe: r}
students:
  mlfd: {teacher: both, model: tsn, recipe: r}
baselines:
  one: {datasets: [near, far], model: tsm, recipe: r}
"""


@pytest.fixture
def config() -> dict[str, Any]:
    raw: dict[str, Any] = yaml.safe_load(CONFIG)
    return raw


def test_config__clips_and_images_side_by_side(config: dict[str, Any]) -> None:
    assert load_config(config).datasets["near"].samples.name() == "clip"


def test_chain__of_both_backbones_and_a_network_of_one_frame(config: dict[str, Any], tmp_path: Path) -> None:
    """Every stage works, and what is computed again is the same."""
    del config["datasets"]["digits"], config["teachers"]["digits"]
    config["models"]["one_frame"] = {"backbone": "tsn", "architecture": "test_resnet", "kwargs": {"segments": 1}}
    config["students"] = {
        "mlfd": {"teacher": "both", "targets": ["near"], "model": "one_frame", "recipe": "r"},
        "live": {"teacher": "individual", "level": "L2", "targets": ["far"], "views": "live", "recipe": "r"},
    }
    config["recipes"]["r"] |= {"head_lr": 5, "schedule": "step", "milestones": [1]}
    plan = Plan(load_config(config | {"results": str(tmp_path / "results")}))
    made = [job for job in plan.jobs.values() if job.stage not in ("table", "figure", "analysis")]
    for job in made:
        make(job)
    lines = list(verify(plan, [f"{job.stage}/{job.name}" for job in made], rows=2))
    assert [line for line in lines if not line.startswith("ok ")] == lines[-1:]
    assert lines[-1].startswith(f"{len(made)} verified")


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("teachers.near", {"model": "image"}, "teachers.near.model: 'image' takes samples of modality image, dataset"),
        ("teachers.digits", {"model": "tsm"}, "teachers.digits.model: 'tsm' takes samples of modality clip, dataset"),
        (
            "joint_teachers.both",
            {"teachers": None},
            "joint_teachers.both.teachers: 'image' takes samples of modality image, dataset 'near' has clip",
        ),
        (
            "joint_teachers.both",
            {"targets": None},
            "joint_teachers.both.teachers: 'tsn' takes samples of modality clip, dataset 'digits' has image",
        ),
        (
            "datasets.far",
            {"segments": 8},
            "joint_teachers.both.teachers: 'tsn' is for clips of 4 segments, not of 8, which dataset 'far' has",
        ),
        (
            "datasets.far",
            {"segments": 8},
            "baselines.one.model: 'tsm' is for clips of 4 segments, not of 8, which dataset 'far' has",
        ),
        ("models.tsm", {"kwargs": {"shift_div": 1}}, "models.tsm.kwargs.shift_div: given 1: "),
        ("models.tsn", {"kwargs": {"segments": 0}}, "models.tsn.kwargs.segments: given 0: "),
        ("models.tsn", {"architecture": "resnet5"}, "models.tsn.architecture: 'resnet5' is not the name of a known"),
    ],
)
def test_config__what_does_not_fit_together(
    config: dict[str, Any], section: str, change: dict[str, Any], message: str
) -> None:
    kind, name = section.split(".")
    config[kind][name] |= change
    with pytest.raises(UserError, match=re.escape(message)):
        load_config(config)
