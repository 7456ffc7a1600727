"""What is stored of a dataset, computed: once by the stages that fill stores, and again by whoever verifies them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from kd.data.modalities.base import View, plain, views_of
from kd.data.options import Augmentation
from kd.data.packed import Split, open_split
from kd.data.sources.base import SPLITS
from kd.data.storage import RowArray
from kd.embeddings.encoding import EncodedArray
from kd.embeddings.options import POSITIVES, CacheOptions
from kd.embeddings.positives import pack_positives
from kd.embeddings.store import ComputedSplit, Rows, open_columns
from kd.embeddings.teachers import FrozenTeachers
from kd.models.devices import send
from kd.models.joint import JointConfig, load_joint_teacher
from kd.models.network import freeze
from kd.models.outputs import Outputs, shapes_of
from kd.models.spec import Level

BATCH = 256
BATCH_BYTES = 256 << 20  # of the joint teacher's widest tensor


def compute_embeddings(
    teacher: Path,
    dataset: Path,
    arrays: Sequence[str],
    *,
    views: int,
    augmentation: Augmentation | None,
    cache: CacheOptions,
    seed: int,
    fabric: Fabric,
) -> Iterator[ComputedSplit]:
    """Embeddings by one frozen teacher of every view of the train split, and of val and test without augmentation.

    Args:
        teacher: directory of the individual teacher.
        dataset: directory of the packed dataset.
        arrays: `L1` to `L4`, and of the dataset's own teacher `logits` and `label_embeddings`.
        views: of each sample of the train split.
        augmentation: makes the views; None: they are the images themselves.
        cache: precision and resolution.
        seed: of the views.
        fabric: owns the device.

    Raises:
        UserError: the teacher or the dataset cannot be read.
    """
    splits = [open_split(dataset, name) for name in SPLITS]
    info = splits[0].info
    frozen = FrozenTeachers([teacher], arrays, info.name, cache, fabric)
    seen = views_of(info.samples, "shared", info.name, seed, augmentation)
    for split in splits:
        yield _embeddings_of(split, frozen, views, seen, fabric)


def _embeddings_of(split: Split, teacher: FrozenTeachers, count: int, views: View, fabric: Fabric) -> ComputedSplit:
    train = split.name == "train"

    def compute(rows: Rows, view: int) -> dict[str, Tensor]:
        images = send(fabric, read_rows(split.images, rows))
        seen = views(images, split.ids[rows], view) if train else plain(split.info.samples, images)
        return _as_stored(teacher.embed(seen)[0], teacher.options, split, rows)

    shapes = {name: teacher.shapes(name)[0] for name in teacher.names}
    layouts = teacher.options.stored(shapes, split.info.most_labels)
    return ComputedSplit(split, layouts, count if train else 1, BATCH, compute)


def compute_targets(
    joint_teacher: Path,
    dataset: Path,
    embeddings: Sequence[Path],
    arrays: Sequence[str],
    *,
    level: Level,
    views: int,
    cache: CacheOptions,
    fabric: Fabric,
) -> Iterator[ComputedSplit]:
    """Targets by a joint teacher for every view of the train split; students need no other.

    Args:
        joint_teacher: its directory.
        dataset: directory of the packed target dataset.
        embeddings: stores of its individual teachers on that dataset, in the order that it takes them in.
        arrays: `logits`, `L1`, distilled maps by level, `label_embeddings`.
        level: that the joint teacher reads.
        views: of each sample.
        cache: precision and resolution.
        fabric: owns the device.

    Raises:
        UserError: the joint teacher, the dataset or a store cannot be read.
    """
    joint = freeze(load_joint_teacher(joint_teacher))
    fabric.to_device(joint)
    split = open_split(dataset, "train")
    stores = [open_columns(store, split, [level])[level] for store in embeddings]

    def make(rows: Rows, view: int) -> dict[str, Tensor]:
        seen: list[dict[str, Tensor]] = [
            {level: send(fabric, read_rows(store, rows, view)).float()} for store in stores
        ]
        with torch.inference_mode():
            outputs: Outputs = joint(seen)
        return outputs.arrays(split.info.name, arrays)

    layouts = cache.stored(shapes_of(make(slice(0, 1), 0)), split.info.most_labels)
    yield ComputedSplit(
        split,
        layouts,
        views,
        batch_rows(joint.config),
        lambda rows, view: _as_stored(make(rows, view), cache, split, rows),
    )


def _as_stored(values: dict[str, Tensor], options: CacheOptions, split: Split, rows: Rows) -> dict[str, Tensor]:
    """Values for some rows of a split under the names, and in the form, that they are stored with."""
    if options.label_embeddings == "all" or "label_embeddings" not in values:
        return values
    whole = values["label_embeddings"]
    labels = torch.from_numpy(split.labels[rows]).to(whole.device)
    others = {name: value for name, value in values.items() if name != "label_embeddings"}
    return others | {POSITIVES: pack_positives(whole, labels, split.info.most_labels)}


def batch_rows(joint: JointConfig) -> int:
    """Rows that are computed together: a power of two, fewer the wider the joint teacher."""
    if joint.grid is None:
        return BATCH
    row_bytes = 4 * len(joint.channels) * joint.width * joint.grid[0] * joint.grid[1]
    return min(BATCH, 1 << max(0, (BATCH_BYTES // row_bytes).bit_length() - 1))


def read_rows(array: RowArray | EncodedArray, rows: Rows, view: int = 0) -> Tensor:
    """Some rows of a view, as they are in memory; each chunk is read once."""
    if isinstance(rows, slice):
        return torch.as_tensor(array.read(rows, view))
    parts = []
    for chunk in np.unique(rows // array.chunk):
        of_chunk = rows[rows // array.chunk == chunk]
        first = int(of_chunk[0])
        read = torch.as_tensor(array.read(slice(first, int(of_chunk[-1]) + 1), view))
        parts.append(read[torch.from_numpy(of_chunk - first)])
    return torch.cat(parts)
