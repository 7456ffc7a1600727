"""What is lost by storing fewer bytes is bounded, and the bytes are those that were promised."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import torch
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from kd.embeddings.encoding import EncodedArray, reduce_map
from kd.embeddings.options import CacheOptions, Dtype, stored_dtype

SHAPES = st.sampled_from([(3,), (2, 2, 3), (5, 1, 1)])


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["float32", "float16", "bfloat16", "int8"]),
    SHAPES,
    st.integers(1, 40),
    st.integers(-4, 4),
    st.integers(0, 2**31),
)
def test_encoding__round_trip_within_its_precision(
    dtype: Dtype, shape: tuple[int, ...], rows: int, power: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(2, rows, *shape, generator=generator) * 10.0**power
    values[:, :, 0] = 0  # a dead channel
    with tempfile.TemporaryDirectory() as folder:
        array = EncodedArray.create(zarr.create_group(f"{folder}/x.zarr"), "L2", dtype, 2, rows, shape)
        for view in (0, 1):
            array.write(slice(0, rows), array.prepare(values[view]), view)
        for view in (0, 1):
            found = array.read(slice(0, rows), view).float()
            error = (found - values[view]).abs()
            per_channel = values[view].abs().amax(dim=[axis for axis in range(values[view].ndim) if axis != 1])
            bound = {
                "float32": 0 * values[view].abs(),
                "float16": values[view].abs() * 2**-11 + 2**-25,
                "bfloat16": values[view].abs() * 2**-8,
                "int8": (per_channel / 254 * 1.02 + 2**-10 * per_channel + 1e-7).view(1, -1, *[1] * (len(shape) - 1)),
            }[dtype]
            assert (error <= bound).all()
            assert (found[:, 0] == 0).all()


def size(dtype: Dtype, folder: Path) -> int:
    array = EncodedArray.create(zarr.create_group(folder / f"{dtype}.zarr"), "L2", dtype, 1, 512, (64, 4, 4))
    array.write(slice(0, 512), array.prepare(torch.randn(512, 64, 4, 4)), 0)
    return sum(path.stat().st_size for path in folder.rglob(f"{dtype}.zarr/**/c.*"))


def test_encoding__int8_is_a_quarter_of_float32(tmp_path: Path) -> None:
    whole = size("float32", tmp_path)
    assert size("int8", tmp_path) < 0.26 * whole
    assert size("bfloat16", tmp_path) < 0.51 * whole


def test_encoding__refuses_what_is_not_finite(tmp_path: Path) -> None:
    array = EncodedArray.create(zarr.create_group(tmp_path / "x.zarr"), "L1", "float32", 1, 2, (3,))
    with pytest.raises(Exception, match="the teacher gives values that are not finite"):
        array.write(slice(0, 2), array.prepare(torch.full((2, 3), torch.nan)), 0)


@pytest.mark.parametrize("grid", [(7, 7), (8, 5), (1, 1)])
def test_reduce_map__has_the_shape_that_was_said(grid: tuple[int, int]) -> None:
    options = CacheOptions(pool={"L2": 2}, stride={"L2": 3, "L3": 2})
    maps = torch.randn(2, 3, *grid)
    for level in ("L2", "L3", "L4"):
        assert reduce_map(maps, level, options).shape[1:] == options.shape(level, (3, *grid))
    assert torch.equal(reduce_map(maps, "L3", options), maps[..., ::2, ::2])
    pooled = reduce_map(maps, "L2", CacheOptions(pool={"L2": 2}))
    torch.testing.assert_close(pooled[..., 0, 0], maps[..., :2, :2].mean(dim=(2, 3)))


def test_stored_dtype__logits_keep_float16() -> None:
    assert [stored_dtype("logits", dtype) for dtype in ("float32", "float16", "bfloat16", "int8")] == [
        "float32",
        *["float16"] * 3,
    ]
    assert stored_dtype("L2", "int8") == "int8"
