"""`predict` sees an image as the test split has it, and so gives the scores that the tables are of."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from kd.common.errors import UserError
from kd.data.modalities.image import Samples
from kd.data.options import Resize, Task
from kd.data.packed import open_split
from kd.data.packing import pack
from kd.data.sources.base import Sample
from kd.data.views import to_float
from kd.models.prediction import predict_files
from kd.models.spec import ModelSpec
from kd.models.weights import Exported, export_student, load_network, new_network, save_network

CLASSES = ["cat", "dog", "eel"]


def images(folder: Path) -> list[Sample]:
    """Six of each class, of many shapes, with much detail; two in each split."""
    rng = np.random.default_rng(0)
    samples = []
    for number in range(18):
        height, width = rng.integers(30, 90, 2)
        path = folder / f"{number:02}.png"
        Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(path)
        samples.append(Sample(path.name, (CLASSES[number % 3],), partial(Image.open, path)))
    return samples


@pytest.mark.parametrize("resize", ["squash", "crop"])
@pytest.mark.parametrize("label_encoder", [None, {"width": 16, "heads": 2, "hidden": 8}])
@pytest.mark.parametrize("input_size", [None, (64, 48), (16, 16)])
def test_predict__equals_the_test_split(
    resize: Resize, label_encoder: dict[str, Any] | None, input_size: tuple[int, int] | None, tmp_path: Path
) -> None:
    (tmp_path / "images").mkdir()
    samples = images(tmp_path / "images")
    codes = np.repeat([0, 1, 2], 6)
    task: Task = "single_label" if label_encoder is None else "multi_label"
    info, _ = pack(
        tmp_path,
        "pets",
        samples,
        codes,
        CLASSES,
        task=task,
        modality=Samples(image_size=(24, 32), resize=resize),
        channels=3,
    )
    torch.manual_seed(0)
    spec = ModelSpec.model_validate(
        {"architecture": "test_resnet", "label_encoder": label_encoder, "input_size": input_size}
    )
    network = new_network(spec, [info])
    save_network(network, tmp_path)
    export_student(network, info, tmp_path)
    split = open_split(tmp_path, "test")
    with torch.inference_mode():
        logits = Exported(load_network(tmp_path), "pets").eval()(to_float(torch.from_numpy(split.images.read())))
    expected = logits.softmax(dim=1) if label_encoder is None else logits.sigmoid()
    names = (tmp_path / "samples.csv").read_text().splitlines()[1:]
    ids = [line.split(",")[1] for line in names if line.endswith(",test")]
    found = {path.name: classes for path, classes in predict_files(tmp_path, tmp_path / "images", 3)}
    for name, row in zip(ids, expected.tolist(), strict=True):
        classes = found[name]
        assert not isinstance(classes, UserError)
        assert [dict(classes)[each] for each in CLASSES] == pytest.approx(row, abs=1e-6)
    assert np.ptp(expected.numpy(), axis=0).max() > 1e-3  # images are told apart
