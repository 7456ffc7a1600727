"""What is stored of a dataset, computed: once by the stages that fill stores, and again by whoever verifies them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from kd.data.modalities.base import View, plain, views_of
from kd.data.packed import Split, open_split
from kd.data.sources.base import SPLITS
from kd.data.storage import RowArray
from kd.embeddings.encoding import EncodedArray, pack_positives, reduce_map
from kd.embeddings.options import POSITIVES, CacheOptions, StoreSpec, TargetsSpec
from kd.embeddings.store import ComputedSplit, Rows, open_columns
from kd.models.devices import send
from kd.models.joint import JointConfig, load_joint_teacher
from kd.models.network import freeze, tap_shapes
from kd.models.outputs import Outputs, shapes_of
from kd.models.spec import LEVELS
from kd.models.weights import load_network

BATCH = 256
BATCH_BYTES = 256 << 20  # of the joint teacher's widest tensor, or of stored samples, of which clips are large


class FrozenTeachers:
    """Several individual teachers, tapped as their stores are: what they make of a batch, whether it is stored or not.

    Args:
        directories: of the teachers.
        names: what of them: levels, and of a dataset's own teacher `logits` and `label_embeddings`.
        dataset: whose classes these are of.
        options: resolution of maps; precision is not reduced.
        fabric: owns the device.
    """

    def __init__(
        self, directories: Sequence[Path], names: Sequence[str], dataset: str, options: CacheOptions, fabric: Fabric
    ) -> None:
        self.names, self.dataset, self.options = names, dataset, options
        self.levels = [level for level in LEVELS if level in names]
        self.networks = [freeze(load_network(directory)) for directory in directories]
        self._shapes = [tap_shapes(network, names, dataset) for network in self.networks]
        for network in self.networks:
            fabric.to_device(network)

    def shapes(self, name: str) -> list[tuple[int, ...]]:
        """Shape of one sample's embedding by each teacher."""
        return [self.options.shape(name, shapes[name]) for shapes in self._shapes]

    @torch.no_grad()
    def embed(self, samples: Tensor) -> list[dict[str, Tensor]]:
        """Per teacher: name -> (B, ...) float32, of (B, ...) samples as backbones take them."""
        seen = [network(samples, self.levels) for network in self.networks]
        return [
            {
                name: reduce_map(value, name, self.options).float()
                for name, value in outputs.arrays(self.dataset, self.names).items()
            }
            for outputs in seen
        ]


def compute_embeddings(spec: StoreSpec, upstream: Mapping[str, Path], fabric: Fabric) -> Iterator[ComputedSplit]:
    """Embeddings by one frozen teacher of every view of the train split, and of val and test without augmentation.

    Args:
        spec: of the store.
        upstream: directories of the individual `teacher` and of the packed `dataset`.
        fabric: owns the device.

    Raises:
        UserError: the teacher or the dataset cannot be read.
    """
    splits = [open_split(upstream["dataset"], name) for name in SPLITS]
    info = splits[0].info
    frozen = FrozenTeachers([upstream["teacher"]], spec.arrays, info.name, spec.cache, fabric)
    seen = views_of(info.samples, "shared", info.name, spec.seed, spec.augmentation)
    for split in splits:
        yield _embeddings_of(split, frozen, spec.views, seen, fabric)


def _embeddings_of(split: Split, teacher: FrozenTeachers, count: int, views: View, fabric: Fabric) -> ComputedSplit:
    train = split.name == "train"

    def compute(rows: Rows, view: int) -> dict[str, Tensor]:
        images = send(fabric, read_rows(split.images, rows))
        seen = views(images, split.ids[rows], view) if train else plain(split.info.samples, images)
        return _as_stored(teacher.embed(seen)[0], teacher.options, split, rows)

    shapes = {name: teacher.shapes(name)[0] for name in teacher.names}
    layouts = teacher.options.stored(shapes, split.info.most_labels)
    return ComputedSplit(split, layouts, count if train else 1, _rows_within(split.images.row_bytes), compute)


def compute_targets(spec: TargetsSpec, upstream: Mapping[str, Path], fabric: Fabric) -> Iterator[ComputedSplit]:
    """Targets by a joint teacher for every view of the train split; students need no other.

    Args:
        spec: of the targets.
        upstream: directories of the `joint_teacher`, of the packed `dataset`, and of the stores
            `embeddings:TEACHER` of its individual teachers on that dataset.
        fabric: owns the device.

    Raises:
        UserError: the joint teacher, the dataset or a store cannot be read.
    """
    joint = freeze(load_joint_teacher(upstream["joint_teacher"]))
    fabric.to_device(joint)
    split = open_split(upstream["dataset"], "train")
    directories = [upstream[f"embeddings:{teacher}"] for teacher in spec.teachers]
    stores = [open_columns(directory, split, [spec.level])[spec.level] for directory in directories]

    def make(rows: Rows, view: int) -> dict[str, Tensor]:
        seen: list[dict[str, Tensor]] = [
            {spec.level: send(fabric, read_rows(store, rows, view)).float()} for store in stores
        ]
        with torch.inference_mode():
            outputs: Outputs = joint(seen)
        return outputs.arrays(split.info.name, spec.arrays)

    layouts = spec.cache.stored(shapes_of(make(slice(0, 1), 0)), split.info.most_labels)

    def compute(rows: Rows, view: int) -> dict[str, Tensor]:
        return _as_stored(make(rows, view), spec.cache, split, rows)

    yield ComputedSplit(split, layouts, spec.views, batch_rows(joint.config), compute)


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
    return _rows_within(4 * len(joint.channels) * joint.width * joint.grid[0] * joint.grid[1])


def _rows_within(row_bytes: int) -> int:
    """Rows of so many bytes that are computed together."""
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
