"""The same path on a GPU: it trains, resumes, caches what the CPU caches. Run with: pytest -m cuda."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from kd.data.packed import open_split, read_info
from kd.embeddings.store import StoreReader
from kd.jobs.run import Context
from kd.models.network import freeze
from kd.models.weights import load_network
from kd.stages import cache_embeddings
from kd.training import loop
from kd.training.supervised import train_network
from tests.training.chain import MODEL, RECIPE, KilledError, die_after, embedding_spec, folder, losses

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and there is none"),
]


@pytest.mark.parametrize("precision", ["32", "bf16-mixed", "16-mixed"])
def test_train_network__learns_on_the_gpu(tmp_path: Path, dataset: Path, precision: Any) -> None:
    recipe = RECIPE.model_copy(update={"precision": precision})
    _, device = train_network(folder(tmp_path / "a"), [dataset], MODEL, recipe, 0)
    assert device.startswith("cuda")
    assert losses(tmp_path / "a")[-1] < losses(tmp_path / "a")[0]


def test_fit__continues_on_the_gpu(tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    die_after(3, monkeypatch)
    with pytest.raises(KilledError):
        train_network(folder(tmp_path / "a"), [dataset], MODEL, RECIPE, 0)
    assert (tmp_path / "a" / loop.CHECKPOINT).exists()
    train_network(tmp_path / "a", [dataset], MODEL, RECIPE, 0)
    assert len(losses(tmp_path / "a")) == RECIPE.epochs


def test_cache__built_on_the_gpu_is_that_of_the_cpu(tmp_path: Path, dataset: Path) -> None:
    train_network(folder(tmp_path / "teacher"), [dataset], MODEL, RECIPE, 0)
    spec = embedding_spec(("L1", "L2"), views=1)
    upstream = {"teacher": tmp_path / "teacher", "dataset": dataset}
    cache_embeddings.build(Context(spec, upstream, folder(tmp_path / "store")))
    split = open_split(dataset, "test")
    cached = StoreReader(tmp_path / "store", ("L1", "L2")).columns("test", split.ids)
    images = torch.from_numpy(split.images.read()).permute(0, 3, 1, 2).float().div(255).expand(-1, 3, -1, -1)
    features = freeze(load_network(tmp_path / "teacher"))(images, ("L2",))
    assert read_info(dataset).sizes["test"] == len(images)
    for level in ("L1", "L2"):
        torch.testing.assert_close(
            cached[level].read(slice(0, len(images)), 0).float(), features.at(level), rtol=0.02, atol=0.02
        )
