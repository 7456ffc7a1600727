"""Caches of one's own: what was written is read back, nothing is lost, and nothing is misread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

import kd


def teacher() -> kd.Tapped:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return kd.Tapped(nn.Sequential(*layers, nn.Linear(5, 4)), ("logits", "L1", "L2"), maps={"L2": "1"})


def images(count: int = 700, seed: int = 0) -> Tensor:
    """More than one chunk of rows."""
    return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


class Items(Dataset[Any]):
    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, row: int) -> Any:
        return self.items[row]


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int8"])
@pytest.mark.parametrize("batch_size", [7, 256, 1000])
def test_cache_embeddings__holds_what_the_teacher_gives(tmp_path: Path, dtype: Any, batch_size: int) -> None:
    """In eval mode, of every view, whatever the batches are; and the teacher stays in the mode that it was in."""
    network, views = teacher(), [images(), images(seed=1)]
    cache = kd.cache_embeddings(tmp_path / "a", network, views, dtype=dtype, batch_size=batch_size, device="cpu")
    assert network.training
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())
    network.eval()
    tolerance = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 2e-2, "int8": 2e-2}[dtype]
    for view, samples in enumerate(views):
        found = cache.read(view=view)
        for name, wanted in network(samples).items():
            assert found[name].dtype == torch.float32
            torch.testing.assert_close(found[name], wanted, rtol=tolerance, atol=tolerance)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]


def test_cache__reads_rows_in_any_order_from_memory_and_from_disk(tmp_path: Path) -> None:
    whole = kd.cache_embeddings(tmp_path / "a", teacher(), images(), device="cpu").read()
    rows = torch.tensor([699, 3, 3, 512, 0])
    for keep in (1 << 30, 0):
        cache = kd.Cache(tmp_path / "a", keep_bytes=keep)
        for given in (rows, rows.numpy(), rows.tolist()):
            found = cache.read(given, names=["L2"])
            assert list(found) == ["L2"]
            assert torch.equal(found["L2"], whole["L2"][rows])
        assert torch.equal(cache[-1]["logits"], whole["logits"][-1])
    plain = zarr.open_group(tmp_path / "a/embeddings.zarr", mode="r")["train/L1"]
    np.testing.assert_array_equal(np.asarray(plain)[0], whole["L1"].numpy().astype(np.float16))


def test_cache_embeddings__of_datasets_and_plain_modules(tmp_path: Path) -> None:
    samples, network = images(30), teacher().module.eval()
    given = [TensorDataset(samples, torch.arange(30)), Items(list(samples))]
    cache = kd.cache_embeddings(tmp_path / "a", network, given, dtype="float32", device="cpu")
    assert cache.names == ["logits"]
    for view in (0, 1):
        torch.testing.assert_close(cache.read(view=view)["logits"], network(samples))


def test_cache_embeddings__keeps_what_is_there(tmp_path: Path) -> None:
    """A cache is replaced only if that is asked for, and nothing else ever is; a failed attempt leaves the old one."""
    target = tmp_path / "a"
    target.mkdir()
    first = kd.cache_embeddings(target, teacher(), images(20), device="cpu").read()["logits"]
    with pytest.raises(kd.UserError, match="holds a cache; read it with Cache, or give overwrite=True"):
        kd.cache_embeddings(target, teacher(), images(10), device="cpu")
    broken = [images(10)[:, :2]]
    with pytest.raises(RuntimeError):
        kd.cache_embeddings(target, teacher(), broken, device="cpu", overwrite=True)
    assert torch.equal(kd.Cache(target).read()["logits"], first)
    assert len(kd.cache_embeddings(target, teacher(), images(10), device="cpu", overwrite=True)) == 10
    (target / "thesis.txt").touch()
    for path in (target, target / "thesis.txt"):
        with pytest.raises(kd.UserError, match="is no cache of yours"):
            kd.cache_embeddings(path, teacher(), images(10), device="cpu", overwrite=True)


@pytest.mark.parametrize(
    ("views", "message"),
    [
        ([images(3), images(4)], "views: have 3, 4 samples"),
        ([images(0)], "views: have 0 samples"),
        (Items(["cat.png"]), "views: sample 0 is str, expected tensors of one shape"),
        (Items([images(1)[0], images(1)[0, :, :5]]), r"views: sample 1 is \(3, 5, 8\), expected"),
        ([images(2) * torch.nan], "values that are not finite"),
    ],
)
def test_cache_embeddings__says_what_is_wrong_with_samples(tmp_path: Path, views: Any, message: str) -> None:
    with pytest.raises(kd.UserError, match=message):
        kd.cache_embeddings(tmp_path / "a", teacher(), views, device="cpu")
    assert not (tmp_path / "a").exists()


def test_cache__says_what_is_not_there(tmp_path: Path) -> None:
    cache = kd.cache_embeddings(tmp_path / "a", teacher(), images(5), device="cpu")
    for given, message in (
        ({"rows": [5]}, "rows 5 to 5, expected some of 0 to 4"),
        ({"rows": [-1]}, "rows -1 to -1"),
        ({"view": 1}, "view 1, expected one of 0 to 0"),
        ({"names": ["L7"]}, "holds no L7, but L1, L2, logits"),
    ):
        with pytest.raises(kd.UserError, match=message):
            cache.read(**given)
    with pytest.raises(kd.UserError, match="holds no split 'val', but train"):
        kd.Cache(tmp_path / "a", "val")
    with pytest.raises(kd.UserError, match="holds no cache, which would be a folder embeddings"):
        kd.Cache(tmp_path)
    for wrong in ([0.5], [True, False], 3):
        with pytest.raises(kd.UserError, match="expected numbers of rows"):
            cache.read(torch.tensor(wrong))
    assert cache.read([])["L1"].shape == (0, 5)
    assert kd.Cache(tmp_path / "a", keep_bytes=0).read([])["L1"].shape == (0, 5)
    with pytest.raises(kd.UserError, match="dtype: 'float8', expected one of float32"):
        kd.cache_embeddings(tmp_path / "b", teacher(), images(5), dtype="float8", device="cpu")  # type: ignore[arg-type]
    samples: Any = kd.Views(images(5), torch.arange(5))
    assert [row for *_, row in samples] == [0, 1, 2, 3, 4]
    with pytest.raises(kd.UserError, match="labels: 4, expected those of 5 samples"):
        kd.Views(images(5), torch.arange(4))


class Listening(Dataset[Any]):
    """Shows the number that it was told."""

    told = -1

    def set_epoch(self, epoch: int) -> None:
        self.told = epoch

    def __len__(self) -> int:
        return 4

    def __getitem__(self, row: int) -> Tensor:
        return torch.full((3, 8, 8), float(self.told))


def test_views__of_one_dataset_that_listens_are_those_of_the_cache(tmp_path: Path) -> None:
    """Also when epochs go through the views again."""
    views, network = [Listening()] * 3, teacher().eval()
    cache = kd.cache_embeddings(tmp_path / "a", network, views, dtype="float32", device="cpu")
    shown = kd.Views(views, torch.arange(4))
    for epoch in (0, 1, 2, 3, 5):
        shown.set_epoch(epoch)
        sample = shown[1][0]
        assert sample.mean() == epoch % 3
        torch.testing.assert_close(cache.read([1], epoch % 3)["logits"], network(sample[None])["logits"])
