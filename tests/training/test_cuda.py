"""The same path on a GPU: it trains, resumes, caches what the CPU caches. Run with: pytest -m cuda."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from kd.data.packed import open_split, read_info
from kd.embeddings.store import open_columns
from kd.jobs.run import Context
from kd.models.devices import make_fabric, send
from kd.models.network import freeze
from kd.models.weights import load_network, new_network
from kd.stages import cache_embeddings, train_teacher
from kd.training import loop
from kd.training.supervised import train_network
from tests.conftest import ROOT
from tests.training.chain import MODEL, RECIPE, KilledError, die_after, embedding_spec, folder, losses

# As they were before any test leased one for this process.
DEVICES = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(torch.cuda.device_count())))

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


def test_train_network__compiled(tmp_path: Path, dataset: Path) -> None:
    recipe = RECIPE.model_copy(update={"compile": True, "precision": "bf16-mixed"})
    train_network(folder(tmp_path / "a"), [dataset], MODEL, recipe, 0)
    assert losses(tmp_path / "a")[-1] < losses(tmp_path / "a")[0]
    assert load_network(tmp_path / "a").config.architecture == MODEL.architecture  # names are those of the network


def test_fit__scaler_of_fp16_is_continued(tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = RECIPE.model_copy(update={"precision": "16-mixed"})
    die_after(3, monkeypatch)
    with pytest.raises(KilledError):
        train_network(folder(tmp_path / "a"), [dataset], MODEL, recipe, 0)
    scaler = torch.load(tmp_path / "a" / loop.CHECKPOINT, weights_only=True)["scaler"]
    assert scaler["_growth_tracker"] == 3 or scaler["scale"] < 65536.0


def test_send__from_pinned_memory() -> None:
    fabric = make_fabric("32")
    sent = send(fabric, torch.arange(10))
    assert sent.device.type == "cuda"
    assert sent.tolist() == list(range(10))
    assert send(fabric, sent) is sent


def test_backbone__is_channels_last_on_the_gpu(dataset: Path) -> None:
    network = make_fabric("32").to_device(new_network(MODEL, [read_info(dataset)]))
    kernels = [each for name, each in network.named_parameters() if name.startswith("backbone") and each.ndim == 4]
    assert all(each.is_contiguous(memory_format=torch.channels_last) for each in kernels)
    assert all(each.is_cuda for each in kernels)


def test_lease__a_real_device() -> None:
    """In a process of its own, that sees no other device then."""
    script = "from kd.jobs.lease import lease; import torch; assert lease(1) and torch.cuda.device_count() == 1"
    subprocess.run([sys.executable, "-c", script], check=True, env=os.environ | {"CUDA_VISIBLE_DEVICES": DEVICES})


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_two_gpus__train_together(tmp_path: Path, dataset: Path) -> None:
    spec = train_teacher.Spec(model=MODEL, recipe=RECIPE, seed=0)
    script = (
        "import sys; from pathlib import Path; from kd.jobs.environment import give_devices; give_devices(2, 1);"
        " from kd.models.spec import ModelSpec; from kd.training.recipe import Recipe;"
        " from kd.training.supervised import train_network;"
        " train_network(Path(sys.argv[1]), [Path(sys.argv[2])], ModelSpec.model_validate_json(sys.argv[3]),"
        " Recipe.model_validate_json(sys.argv[4]), 0)"
    )
    (tmp_path / "train.py").write_text(script)
    arguments = [str(folder(tmp_path / "a")), str(dataset), spec.model.model_dump_json(), RECIPE.model_dump_json()]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": DEVICES, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, str(tmp_path / "train.py"), *arguments], check=True, env=environment)
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
    cached = open_columns(tmp_path / "store", split, ("L1", "L2"))
    images = torch.from_numpy(split.images.read()).permute(0, 3, 1, 2).float().div(255).expand(-1, 3, -1, -1)
    features = freeze(load_network(tmp_path / "teacher"))(images, ("L2",))
    assert read_info(dataset).sizes["test"] == len(images)
    for level in ("L1", "L2"):
        torch.testing.assert_close(
            cached[level].read(slice(0, len(images)), 0).float(), features.arrays("digits")[level], rtol=0.02, atol=0.02
        )
