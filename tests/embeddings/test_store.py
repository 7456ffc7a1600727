"""An embedding in the cache is what the teacher says, live, of the same view of the same sample."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr

from kd.common.errors import UserError
from kd.data.options import Augmentation
from kd.data.packed import open_split, read_info
from kd.data.views import Views, to_float
from kd.embeddings.computing import batch_rows
from kd.embeddings.encoding import reduce_map
from kd.embeddings.options import CacheOptions, Layout
from kd.embeddings.store import STORE, ComputedSplit, Rows, open_columns, write_store
from kd.jobs.run import Context
from kd.models.joint import JointConfig
from kd.models.network import freeze
from kd.models.spec import LEVELS, Level, ModelSpec, map_levels
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
    teacher, store = tmp_path / "teacher", tmp_path / "store"
    for path in (teacher, store):
        path.mkdir()
    save_network(new_network(model, [info]), teacher)
    options = CacheOptions(pool={"L4": 2}, stride={"L3": 2})
    spec = cache_embeddings.Spec(
        dataset="digits", arrays=list(LEVELS), views=3, augmentation=SHAKE, cache=options, seed=4
    )
    cache_embeddings.build(Context(spec, {"teacher": teacher, "dataset": dataset}, store))

    live = freeze(load_network(teacher))
    views = Views("shared", info.name, 4, SHAKE)
    for name, view in (("train", 0), ("train", 2), ("val", 0), ("test", 0)):
        split = open_split(dataset, name)
        rows = np.random.default_rng(0).permutation(len(split.ids))[:7]  # other batch, other order
        images = torch.from_numpy(split.images.read()[rows])
        pixels = views(images, split.ids[rows], view) if name == "train" else to_float(images)
        features = live(pixels, LEVELS)
        cached = open_columns(store, split, LEVELS)
        for level in LEVELS:
            found = cached[level].read(slice(0, len(split.ids)), view)[rows].float()
            expected = reduce_map(features.arrays("digits")[level], level, options)
            torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3)


class Source:
    """Stands in for a teacher: values that say where they belong; counts its calls, and may stop."""

    def __init__(self, ids: np.ndarray, stop_after: int = 10**9, scale: float = 1.0) -> None:
        self.ids, self.stop_after, self.scale, self.calls = ids, stop_after, scale, 0

    def __call__(self, rows: Rows, view: int) -> dict[str, torch.Tensor]:
        if self.calls == self.stop_after:
            raise KeyboardInterrupt
        self.calls += 1
        ids = torch.from_numpy(self.ids[rows])
        maps = ids[:, None, None, None] + 100 * view + torch.arange(8).reshape(1, 2, 2, 2) / 8
        return {"L1": (ids[:, None] + 1000.0 * view) * self.scale, "L2": maps.float()}


def fill(directory: Path, dataset: Path, dtype: Any = "float32", **options: Any) -> Source:
    split = open_split(dataset, "train")
    source = Source(split.ids, **options)
    layouts = {"L1": Layout((1,), dtype), "L2": Layout((2, 2, 2), dtype)}
    write_store(directory, [ComputedSplit(split, layouts, 2, 7, source)])
    return source


@pytest.fixture
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kd.data.storage.CHUNK_ROWS", 16)


def files(directory: Path) -> dict[str, bytes]:
    found = sorted(path for path in (directory / STORE).rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in found}


@pytest.mark.usefixtures("_small_chunks")
def test_write_store__every_row_in_its_place(tmp_path: Path, dataset: Path) -> None:
    fill(tmp_path, dataset)
    split = open_split(dataset, "train")
    ids, columns = split.ids, open_columns(tmp_path, split, ("L1", "L2"))
    assert columns["L1"].chunk == 16
    for view in (0, 1):
        assert columns["L1"].read(slice(0, 60), view)[:, 0].tolist() == (ids + 1000.0 * view).tolist()
        middle = columns["L2"].read(slice(5, 41), view)  # begins and ends within chunks
        assert middle[:, 0, 0, 0].tolist() == (ids[5:41] + 100.0 * view).tolist()


@pytest.mark.usefixtures("_small_chunks")
@pytest.mark.parametrize("stop_after", [0, 1, 5, 13, 17])
def test_write_store__goes_on_at_the_last_whole_chunk(tmp_path: Path, dataset: Path, stop_after: int) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    calls = fill(whole, dataset, "int8").calls
    with pytest.raises(KeyboardInterrupt):
        fill(cut, dataset, "int8", stop_after=stop_after)
    (cut / STORE / "train/L2/c.1.0.123.partial").write_bytes(b"half a chunk")
    again = fill(cut, dataset, "int8").calls
    whole_chunks = [0, 3, 6, 9, 11, 14, 17, 20, 22]  # batches of 7 after each chunk of 16 rows; 60 rows, two views
    assert again == calls - max(done for done in whole_chunks if done <= stop_after)
    assert files(cut) == files(whole)


@pytest.mark.usefixtures("_small_chunks")
def test_write_store__writes_a_damaged_chunk_anew(tmp_path: Path, dataset: Path) -> None:
    fill(tmp_path, dataset)
    before = files(tmp_path)
    damaged = tmp_path / STORE / "train/L2/c.1.2.0.0.0"
    damaged.write_bytes(damaged.read_bytes()[:-9])
    assert fill(tmp_path, dataset).calls == 3
    assert files(tmp_path) == before


@pytest.mark.usefixtures("_small_chunks")
def test_open_columns__refuses_other_samples_and_bad_chunks(tmp_path: Path, dataset: Path) -> None:
    fill(tmp_path, dataset)
    split = open_split(dataset, "train")
    with pytest.raises(UserError, match="ids of split train are those of 60 other samples"):
        open_columns(tmp_path, replace(split, ids=split.ids[::-1]), ("L1",))
    with pytest.raises(UserError, match="holds no array L7"):
        open_columns(tmp_path, split, ("L7",))
    column = open_columns(tmp_path, split, ("L1",))["L1"]
    chunk = tmp_path / STORE / "train/L1/c.1.2.0"
    content = chunk.read_bytes()
    flipped = bytearray(content)
    flipped[3] ^= 4
    for wrong, message in ((bytes(flipped), "CRC32C"), (content[:-1], "67 bytes, expected 68"), (b"", "0 bytes")):
        chunk.write_bytes(wrong)
        assert column.read(slice(0, 32), 1) is not None
        with pytest.raises(UserError, match=message):
            column.read(slice(0, 60), 1)
    chunk.unlink()
    with pytest.raises(UserError, match="chunk is missing"):
        column.read(slice(0, 60), 1)


@pytest.mark.parametrize(("dtype", "largest"), [("float16", 65504), ("int8", 65504)])
def test_write_store__refuses_what_the_precision_cannot_hold(
    tmp_path: Path, dataset: Path, dtype: str, largest: int
) -> None:
    with pytest.raises(UserError, match=rf"L1: largest value 6e\+06 does not fit {dtype} \({largest}\)"):
        fill(tmp_path, dataset, dtype, scale=1e6)
    fill(tmp_path / "wide", dataset, "bfloat16", scale=1e6)


def test_store__read_by_zarr_alone_as_documented(tmp_path: Path, dataset: Path) -> None:
    """What config/README.md promises to people who have zarr and numpy, and not this package."""
    ids = open_split(dataset, "train").ids
    expected = ids[:, None] + 1000.0
    for dtype, tolerance in (("float32", 0.0), ("float16", 0.5), ("bfloat16", 4.0), ("int8", 5.0)):
        fill(tmp_path / dtype, dataset, dtype)
        train: Any = zarr.open_group(tmp_path / dtype / STORE, mode="r")["train"]
        assert train["ids"][:].tolist() == ids.tolist()
        stored, precision = train["L1"][1], train["L1"].attrs["precision"]
        if precision == "bfloat16":
            stored = (stored.astype(np.uint32) << 16).view(np.float32)
        if precision == "int8":
            scale = train["L1_scale"][1]  # (chunks, C)
            stored = stored * scale[np.arange(len(stored)) // train["L1"].chunks[1]]
        np.testing.assert_allclose(stored, expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize(("level", "side", "rows"), [("L1", 1, 256), ("L2", 7, 64), ("L4", 28, 4)])
def test_batch_rows__few_for_wide_joint_teachers(level: Level, side: int, rows: int) -> None:
    """The paper's width, three teachers: the fused maps of 256 images at L4 would be 9 GiB."""
    grid = None if level == "L1" else (side, side)
    config = JointConfig(
        level=level,
        channels=[8] * 3,
        grid=grid,
        map_channels=[8] * len(map_levels(level)),
        width=4096,
        dropout=0.5,
        heads={"digits": 10},
    )
    assert batch_rows(config) == rows


@pytest.mark.usefixtures("_small_chunks")
def test_write_store__the_same_bits_whatever_else_is_stored(tmp_path: Path, dataset: Path) -> None:
    """Batches do not follow the chunks of the other arrays."""
    split = open_split(dataset, "train")
    met: list[list[Rows]] = []
    for chunk_rows, folder in ((16, "a"), (4, "b")):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("kd.data.storage.CHUNK_ROWS", chunk_rows)
            source, rows = Source(split.ids), list[Rows]()

            def make(part: Rows, view: int) -> dict[str, torch.Tensor]:
                rows.append(part)  # noqa: B023
                return source(part, view)  # noqa: B023

            write_store(tmp_path / folder, [ComputedSplit(split, {"L1": Layout((1,), "float32")}, 1, 8, make)])
        met.append(rows)
    assert met[0] == met[1]


@pytest.mark.usefixtures("_small_chunks")
def test_write_store__takes_what_a_smaller_store_has(tmp_path: Path, dataset: Path) -> None:
    """Another view, another array: only these are computed, and the store is what it would have been."""
    split = open_split(dataset, "train")
    small = {"L1": Layout((1,), "int8")}
    large = small | {"L2": Layout((2, 2, 2), "int8")}
    first, again, whole = (Source(split.ids) for _ in range(3))
    write_store(tmp_path / "small", [ComputedSplit(split, large, 1, 16, first)])
    write_store(tmp_path / "taken", [ComputedSplit(split, large, 3, 16, again)], [tmp_path / "small"])
    write_store(tmp_path / "whole", [ComputedSplit(split, large, 3, 16, whole)])
    assert (first.calls, again.calls, whole.calls) == (4, 8, 12)
    assert files(tmp_path / "taken") == files(tmp_path / "whole")
    write_store(tmp_path / "fewer", [ComputedSplit(split, small, 2, 16, Source(split.ids, 0))], [tmp_path / "whole"])
