"""An embedding in the cache is what the teacher says, live, of the same view of the same sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr

from kd.data.options import Augmentation
from kd.data.packed import read_info, read_split
from kd.data.storage import missing_shards
from kd.data.views import Views, to_float
from kd.embeddings.store import EmbeddingReader, create_store, write_split
from kd.jobs.errors import UserError
from kd.jobs.run import Context
from kd.models.network import freeze
from kd.models.spec import LEVELS, ModelSpec
from kd.models.weights import load_network, new_network, save_network
from kd.stages import cache_embeddings
from tests.models.test_network import SWIN

SHAKE = Augmentation(rotation=15, flip=0.5, translate=0.1, contrast=0.3)
BACKBONES: list[tuple[str, dict[str, Any]]] = [
    ("test_resnet", {}),
    ("test_vit", {}),
    ("swin_tiny_patch4_window7_224", SWIN),
]


@pytest.mark.parametrize(("architecture", "kwargs"), BACKBONES)
def test_cache__equals_the_live_teacher(
    tmp_path: Path, dataset: Path, architecture: str, kwargs: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    info = read_info(dataset)
    model = ModelSpec(architecture=architecture, kwargs=kwargs, latent_dim=12)
    teacher = tmp_path / "teacher"
    teacher.mkdir()
    save_network(new_network(model, [info], statistics=info), teacher)
    spec = cache_embeddings.Spec(levels=list(LEVELS), views=3, augmentation=SHAKE, seed=4)
    store = tmp_path / "store"
    store.mkdir()
    cache_embeddings.build(Context(spec, {"teacher": teacher, "dataset": dataset}, store))

    live = freeze(load_network(teacher))
    reader = EmbeddingReader(store, LEVELS)
    views = Views(info, 4, SHAKE)
    for name, view in (("train", 0), ("train", 2), ("val", 0), ("test", 0)):
        split = read_split(dataset, name)
        rows = np.random.default_rng(0).permutation(len(split.ids))[:7]  # other batch, other order
        images = torch.from_numpy(split.images[rows])
        pixels = views(images, split.ids[rows], view) if name == "train" else to_float(images)
        features = live(pixels, LEVELS)
        cached = reader.view(name, view, split.ids)
        for level in LEVELS:
            torch.testing.assert_close(cached[level][rows].float(), features.at(level), rtol=2e-3, atol=2e-3)


def fill(directory: Path, dataset: Path, rows: float = 1.0) -> None:
    split = read_split(dataset, "train")
    root = create_store(directory)

    def tap(images: np.ndarray, ids: np.ndarray, view: int) -> dict[str, torch.Tensor]:
        return {"L1": torch.from_numpy(ids[:, None] + 1000.0 * view) * rows, "L2": torch.zeros(len(images), 2, 3, 3)}

    write_split(root, "train", split, {"L1": (1,), "L2": (2, 3, 3)}, 2, tap, batch_size=7)


def test_write_split__every_row_in_its_place(tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kd.data.storage.SHARD_BYTES", 36 * 16)  # several shards
    monkeypatch.setattr("kd.data.storage.CHUNK_BYTES", 36 * 4)
    fill(tmp_path, dataset)
    ids = read_split(dataset, "train").ids
    reader = EmbeddingReader(tmp_path, ("L1", "L2"))
    for view in (0, 1):
        assert reader.view("train", view, ids)["L1"][:, 0].tolist() == (ids + 1000.0 * view).tolist()
    array = zarr.open_group(tmp_path / "embeddings.zarr", mode="r")["train/L2"]
    assert isinstance(array, zarr.Array)
    assert array.shards == (1, 16, 2, 3, 3)
    assert missing_shards(array) == 0  # all-zero shards are written, too
    next(path for path in (tmp_path / "embeddings.zarr/train/L2/c/0").rglob("*") if path.is_file()).unlink()
    assert missing_shards(array) == 1


def test_reader__refuses_other_samples_and_lost_chunks(tmp_path: Path, dataset: Path) -> None:
    fill(tmp_path, dataset)
    ids = read_split(dataset, "train").ids
    reader = EmbeddingReader(tmp_path, ("L1",))
    with pytest.raises(UserError, match="other samples"):
        reader.view("train", 0, ids[::-1].copy())
    for path in (tmp_path / "embeddings.zarr/train/L1/c/1").rglob("*"):
        if path.is_file():
            path.unlink()
    with pytest.raises(UserError, match="1 shards are missing"):
        reader.view("train", 0, ids)


def test_write_split__refuses_what_float16_cannot_hold(tmp_path: Path, dataset: Path) -> None:
    with pytest.raises(UserError, match=r"L1: largest value [\d.]+e\+07 does not fit float16"):
        fill(tmp_path, dataset, rows=1e6)
