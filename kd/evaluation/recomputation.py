"""Rows of stores, computed again by the live teachers and compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from kd.data.packed import Split, open_split
from kd.data.sources.base import SPLITS
from kd.data.storage import RowArray
from kd.data.views import Views, to_float
from kd.embeddings.encoding import EncodedArray
from kd.embeddings.store import StoreReader, stored_arrays
from kd.jobs.job import Job
from kd.models.network import freeze
from kd.stages import cache_embeddings, cache_targets
from kd.training.devices import make_fabric
from kd.training.fusion import load_joint_teacher
from kd.training.live import LiveTeachers

BATCH = 256
# Rounding, relative to each value; int8 has half a step of its scale besides.
ROUNDING = {"float32": 0.0, "float16": 2.0**-10, "bfloat16": 2.0**-7, "int8": 2.0**-9}
# Relative to the largest value: sums in another order, and on a GPU in TF32.
NOISE_CPU, NOISE_GPU = 1e-4, 5e-3

Compute = Callable[[np.ndarray, int], Mapping[str, Tensor]]  # (row numbers, view) -> name -> (rows, ...)


@dataclass
class _Tally:
    rows: int = 0
    off: int = 0
    first: int = -1
    largest: float = 0.0


def embedding_differences(job: Job, upstream: Mapping[str, Path], device: str, rows: int) -> Iterator[str]:
    """Where a store of embeddings is not what the teacher sees in the same views.

    Args:
        job: of the store.
        upstream: directories by role.
        device: that the store was computed on.
        rows: of each split and view, at least.

    Raises:
        UserError: something cannot be read.
    """
    spec = cache_embeddings.Spec.model_validate(job.spec)
    fabric = make_fabric("32")
    teacher = LiveTeachers([upstream["teacher"]], spec.arrays, spec.dataset, spec.cache, fabric)
    for name in SPLITS:
        split = open_split(upstream["dataset"], name)
        views = Views("shared", split.info, spec.seed, spec.augmentation)

        def compute(picked: np.ndarray, view: int) -> Mapping[str, Tensor]:
            pixels = fabric.to_device(_picked_rows(split.images, picked))  # noqa: B023
            train = split.name == "train"  # noqa: B023
            seen = views(pixels, split.ids[picked], view) if train else to_float(pixels)  # noqa: B023
            return stored_arrays(teacher.embed(seen)[0], spec.cache, split, picked)  # noqa: B023

        count = spec.views if name == "train" else 1
        names = [spec.cache.stored_name(array) for array in spec.arrays]
        yield from _differences(job.directory, split, names, count, compute, noise(device, fabric), rows)


def target_differences(job: Job, upstream: Mapping[str, Path], device: str, rows: int) -> Iterator[str]:
    """Where a store of targets is not what the joint teacher makes of the stored embeddings; as above."""
    spec = cache_targets.Spec.model_validate(job.spec)
    fabric = make_fabric("32")
    joint = freeze(load_joint_teacher(upstream["joint_teacher"]))
    fabric.to_device(joint)
    split = open_split(upstream["dataset"], "train")
    stores = [
        StoreReader(upstream[f"embeddings:{teacher}"], [spec.level]).columns("train", split.ids)[spec.level]
        for teacher in spec.teachers
    ]

    def compute(picked: np.ndarray, view: int) -> Mapping[str, Tensor]:
        embeddings: list[dict[str, Tensor]] = [
            {spec.level: fabric.to_device(_picked_rows(store, picked, view)).float()} for store in stores
        ]
        with torch.inference_mode():
            made = joint.make_targets(embeddings, spec.dataset).named(spec.arrays)
        return stored_arrays(made, spec.cache, split, picked)

    names = [spec.cache.stored_name(array) for array in spec.arrays]
    yield from _differences(job.directory, split, names, spec.views, compute, noise(device, fabric), rows)


def noise(device: str, fabric: Fabric) -> float:
    """How far two computations of the same may be apart, relative to the largest value."""
    return NOISE_CPU if device == fabric.device.type == "cpu" else NOISE_GPU


def _differences(
    directory: Path, split: Split, names: Sequence[str], views: int, compute: Compute, noise: float, rows: int
) -> Iterator[str]:
    columns = StoreReader(directory, names).columns(split.name, split.ids)
    short = [column for column in columns.values() if column.views < views or column.rows != len(split.ids)]
    for column in short:
        yield (f"{column.array.path}: {column.views} views of {column.rows} rows, expected {views} of {len(split.ids)}")
    if short:
        return
    tallies = {(name, view): _Tally() for name in names for view in range(views)}
    picked = sample_rows(len(split.ids), rows, min(column.chunk for column in columns.values()))
    for start in range(0, len(picked), BATCH):
        part = picked[start : start + BATCH]
        for view in range(views):
            computed = compute(part, view)
            for name, column in columns.items():
                _compare(column, part, view, computed[name].float().cpu(), noise, tallies[name, view])
    for (name, view), tally in tallies.items():
        if tally.off:
            yield (
                f"{columns[name].array.path}: view {view}: {tally.off} of {tally.rows} rows computed again differ, the"
                f" first is {tally.first}; largest difference {tally.largest:.3g}: these are not embeddings by its"
                " own teachers of its own views"
            )


def sample_rows(count: int, rows: int, chunk: int) -> np.ndarray:
    """Evenly spread row numbers, sorted, at least one of every chunk."""
    spread = np.linspace(0, count - 1, min(rows, count)).round().astype(np.int64)
    middles = np.minimum(np.arange(0, count, chunk) + chunk // 2, count - 1)
    return np.unique(np.concatenate([spread, middles]))


def _compare(
    column: EncodedArray, picked: np.ndarray, view: int, computed: Tensor, noise: float, tally: _Tally
) -> None:
    stored = _picked_rows(column, picked, view).float()
    tolerance = noise * computed.abs().amax() + ROUNDING[column.dtype] * computed.abs()
    if column.scales is not None:
        chunks = picked // column.chunk
        scales = np.concatenate([column.scales.read(slice(chunk, chunk + 1), view) for chunk in chunks])
        tolerance += 0.5 * torch.from_numpy(scales).view(*scales.shape, *[1] * (computed.ndim - 2))
    difference = (stored - computed).abs()
    off = (~(difference <= tolerance)).flatten(1).any(dim=1)
    tally.rows += len(picked)
    if off.any():
        tally.first = int(picked[int(off.nonzero()[0])]) if tally.first < 0 else tally.first
        tally.off += int(off.sum())
        tally.largest = max(tally.largest, difference.max().item())


def _picked_rows(array: RowArray | EncodedArray, picked: np.ndarray, view: int = 0) -> Tensor:
    """Some rows of a view, sorted, as they are in memory; each chunk is read once."""
    parts = []
    for chunk in np.unique(picked // array.chunk):
        of_chunk = picked[picked // array.chunk == chunk]
        first = int(of_chunk[0])
        rows = torch.as_tensor(array.read(slice(first, int(of_chunk[-1]) + 1), view))
        parts.append(rows[torch.from_numpy(of_chunk - first)])
    return torch.cat(parts)
