"""Caches of one's own: what a teacher makes of samples in memory or of any `Dataset`, in the stores of the workflow."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from torch import Tensor, nn
from torch.utils.data import Dataset

from kd.artefacts.files import PARTIAL
from kd.common.errors import UserError
from kd.data.loader import MemoryBudget
from kd.data.modalities.base import Modality
from kd.data.order import view_of_epoch
from kd.data.packed import DatasetInfo, Labelled
from kd.data.storage import open_group, open_rows
from kd.embeddings.computing import BATCH, read_rows
from kd.embeddings.encoding import EncodedArray
from kd.embeddings.options import STORED_DTYPES, CacheOptions, Dtype
from kd.embeddings.store import STORE, ComputedSplit, Rows, write_store
from kd.models.devices import one_device
from kd.models.joint import JointTeacher
from kd.models.network import at_rest
from kd.models.outputs import shapes_of
from kd.models.taps import Tapped

Samples = Tensor | Dataset[Any]
"""Samples that a network takes: (N, ...) in one tensor; or a dataset whose items are samples, or tuples that begin with
one."""

KEPT_BYTES = 4 << 30
OWN = "data"
"""Name of the one dataset that samples of one's own are of."""


class Cache(Dataset[dict[str, Tensor]]):
    """What a teacher made of every view of some samples, read from disk.

    An item is what the first view of a sample gave, by name. What is read once stays in memory, as long as that is not
    more than `keep_bytes`.

    Args:
        directory: of the cache: one that `cache_embeddings` or `cache_targets` wrote, or one of the workflow's.
        split: `train`; caches of embeddings that the workflow wrote have `val` and `test`, too.
        keep_bytes: of values that may stay in memory.

    Attributes:
        names: of the arrays.
        shapes: of one sample's part of each.
        views: that are stored.
        ids: (N,) int64 of the samples, in the order of the rows.

    Raises:
        UserError: there is no such cache, or it is damaged.

    Examples:
        >>> import kd, tempfile, timm, torch
        >>> teacher = kd.Tapped(timm.create_model("test_resnet", num_classes=5), ("logits", "L1"))
        >>> directory = tempfile.mkdtemp() + "/cache"
        >>> cache = kd.cache_embeddings(directory, teacher, torch.rand(20, 3, 32, 32), device="cpu")
        >>> len(cache), cache.names, cache.shapes["L1"]
        (20, ['L1', 'logits'], (96,))
        >>> kd.Cache(directory).read(torch.tensor([7, 3]))["logits"].shape
        torch.Size([2, 5])
    """

    def __init__(self, directory: Path | str, split: str = "train", *, keep_bytes: int = KEPT_BYTES) -> None:
        self.directory, self.split = Path(directory), split
        if not (self.directory / STORE).is_dir():
            raise UserError(f"{self.directory}: holds no cache, which would be a folder {STORE}")
        root = open_group(self.directory / STORE)
        group = root.get(split)
        if not isinstance(group, zarr.Group):
            raise UserError(f"{self.directory}: holds no split {split!r}, but {', '.join(sorted(root.group_keys()))}")
        names = sorted(name for name in group.array_keys() if name != "ids" and not name.endswith("_scale"))
        self.arrays = {name: EncodedArray.open(group, name) for name in names}
        if not names:
            raise UserError(f"{self.directory}: holds no arrays of {split}")
        self.ids = open_rows(group, "ids").read()
        self.names, self.shapes = names, {name: each.row_shape for name, each in self.arrays.items()}
        self.views = next(iter(self.arrays.values())).views
        self._memory = MemoryBudget(lambda tensor: tensor, keep_bytes)
        self._kept: dict[tuple[str, int], Tensor] = {}

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        if not -len(self) <= row < len(self):
            raise IndexError(row)
        return {name: value[0] for name, value in self.read([row % len(self)]).items()}

    def read(
        self, rows: Tensor | np.ndarray | Sequence[int] | None = None, view: int = 0, names: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """Some rows of a view by name, each (rows, ...) float32 on the CPU.

        Args:
            rows: numbers of samples, in any order, each at most once or several times; None: all.
            view: number of the view.
            names: of the arrays that are wanted; None: all.

        Raises:
            UserError: there is no such row, view or array; or the file is damaged.
        """
        given = torch.arange(len(self)) if rows is None else torch.as_tensor(rows).cpu()
        if given.ndim != 1 or (len(given) and (given.is_floating_point() or given.dtype == torch.bool)):
            raise UserError(f"rows: {given.dtype} of shape {tuple(given.shape)}, expected numbers of rows (B,)")
        wanted = given.numpy().astype(np.int64)
        if len(wanted) and not 0 <= wanted.min() <= wanted.max() < len(self):
            raise UserError(
                f"{self.directory}: rows {wanted.min()} to {wanted.max()}, expected some of 0 to {len(self) - 1}"
            )
        if not 0 <= view < self.views:
            raise UserError(f"{self.directory}: view {view}, expected one of 0 to {self.views - 1}")
        missing = [name for name in names or () if name not in self.arrays]
        if missing:
            raise UserError(f"{self.directory}: holds no {missing[0]}, but {', '.join(self.names)}")
        return {name: self._rows(name, wanted, view).float() for name in names or self.names}

    def _rows(self, name: str, rows: np.ndarray, view: int) -> Tensor:
        array = self.arrays[name]
        if (name, view) not in self._kept and (keep := self._memory.reserve(array.rows * array.row_bytes)):
            self._kept[name, view] = keep(torch.as_tensor(array.read(slice(0, array.rows), view)))
        if (name, view) in self._kept:
            return self._kept[name, view][torch.from_numpy(rows)]
        if not len(rows):
            return torch.empty(0, *array.row_shape)
        unique, places = np.unique(rows, return_inverse=True)
        return read_rows(array, unique, view)[torch.from_numpy(places)]


class Views(Dataset[tuple[Tensor, Tensor, int]]):
    """The views that a cache was made of, as training data: an item is (sample in the view of the epoch, label, row).

    A dataset among the views that has a `set_epoch` is told the number of its view, as by `cache_embeddings`.

    Args:
        views: as `cache_embeddings` takes them.
        labels: (N,) class ids, or (N, classes) of 0 and 1.

    Raises:
        UserError: views and labels differ in their number.

    Examples:
        >>> import kd, torch
        >>> first, second = torch.zeros(10, 3, 8, 8), torch.ones(10, 3, 8, 8)
        >>> data = kd.Views([first, second], torch.arange(10) % 2)
        >>> data.set_epoch(3)
        >>> image, label, row = data[5]
        >>> image.mean().item(), label.item(), row
        (1.0, 1, 5)
    """

    def __init__(self, views: Samples | Sequence[Samples], labels: Tensor) -> None:
        self.views, self.labels, self.view = _views(views), labels, 0
        if len(labels) != _count(self.views):
            raise UserError(f"labels: {len(labels)}, expected those of {_count(self.views)} samples")

    def set_epoch(self, epoch: int) -> None:
        """Show the view that belongs to an epoch, counted from 0; the loop of `distill_student` calls this."""
        self.view = view_of_epoch(epoch, len(self.views))
        tell_epoch(self.views[self.view], self.view)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor, int]:
        if not -len(self) <= row < len(self):
            raise IndexError(row)
        row %= len(self)
        return _samples(self.views[self.view], slice(row, row + 1))[0], self.labels[row], row


def tell_epoch(data: Any, epoch: int) -> bool:
    """Tell a dataset or sampler, and those inside it, which epoch begins; whether any of them listens."""
    if hasattr(data, "set_epoch"):
        data.set_epoch(epoch)
        return True
    inner = [getattr(data, "dataset", None), *getattr(data, "datasets", ())]
    told = [tell_epoch(each, epoch) for each in inner if each is not None]
    return any(told)


def cache_embeddings(
    directory: Path | str,
    teacher: nn.Module,
    views: Samples | Sequence[Samples],
    *,
    dtype: Dtype = "float16",
    batch_size: int = BATCH,
    device: str = "auto",
    overwrite: bool = False,
) -> Cache:
    """Store what a teacher makes of samples, so that it has to look at them once. It is moved to the device.

    Args:
        directory: of the cache; it is there when the cache is complete, not before.
        teacher: what it gives in eval mode is stored: the arrays of a `Tapped` network, the logits of any other.
        views: the samples; or a sequence of them, one for each view: the same samples in the same order, each with
            other augmentation. A dataset that has a `set_epoch` is told the number of its view.
        dtype: precision of the stored values: float32, float16, bfloat16, or int8 with scales. Logits have float16 at
            least.
        batch_size: samples that the teacher looks at together.
        device: that it computes on: auto, cpu, cuda, or one such as cuda:1.
        overwrite: whether a cache that is there already is replaced.

    Raises:
        UserError: something is there already, views differ in their number of samples, or a value is not finite.

    Examples:
        >>> import kd, tempfile, timm, torch
        >>> teacher = kd.Tapped(timm.create_model("test_resnet", num_classes=5), ("L1",))
        >>> images = torch.rand(20, 3, 32, 32)
        >>> kd.cache_embeddings(tempfile.mkdtemp() + "/L1", teacher, [images, images.flip(-1)], device="cpu").views
        2
    """
    seen = _views(views)
    count = _count(seen)
    _check_options(dtype, batch_size)
    at = one_device(device).device
    network = (teacher if isinstance(teacher, Tapped) else Tapped(teacher)).to(at)

    def compute(rows: Rows, view: int) -> dict[str, Tensor]:
        tell_epoch(seen[view], view)
        arrays: dict[str, Tensor] = network(_samples(seen[view], rows).to(at))
        return arrays

    with at_rest(network):
        return _write(Path(directory), compute, count, len(seen), dtype, batch_size, overwrite=overwrite)


def cache_targets(
    directory: Path | str,
    joint: JointTeacher,
    embeddings: Sequence[Cache],
    names: Sequence[str] = ("logits",),
    *,
    dtype: Dtype = "float16",
    dataset: str | None = None,
    batch_size: int = BATCH,
    device: str = "auto",
    overwrite: bool = False,
) -> Cache:
    """Store what a joint teacher makes of the embeddings by its individual teachers: the targets of students.

    Args:
        directory: of the cache.
        joint: whose outputs are stored.
        embeddings: by each of its teachers, in the order that it was trained with.
        names: of its outputs: `logits`, `L1`, its distilled maps, `label_embeddings`.
        dtype: as of `cache_embeddings`, as are `batch_size`, `device` and `overwrite`.
        dataset: of its heads, where it has several.
        batch_size: samples that it looks at together.
        device: that it computes on.
        overwrite: whether a cache that is there already is replaced.

    Raises:
        UserError: as of `cache_embeddings`; or the caches are of different samples.

    Examples:
        >>> import kd, tempfile, timm, torch
        >>> folder = tempfile.mkdtemp()
        >>> teacher = kd.Tapped(timm.create_model("test_resnet", num_classes=5), ("L1",))
        >>> cache = kd.cache_embeddings(folder + "/L1", teacher, torch.rand(20, 3, 32, 32), device="cpu")
        >>> options = {"grid": None, "map_channels": [], "width": 512, "dropout": 0.5}
        >>> joint = kd.JointTeacher(kd.JointConfig(level="L1", channels=[96], heads={"data": 5}, **options))
        >>> kd.cache_targets(folder + "/targets", joint, [cache], device="cpu").shapes
        {'logits': (5,)}
    """
    _check_options(dtype, batch_size)
    names = (names,) if isinstance(names, str) else names
    if not names:
        raise UserError("names: none are given, expected some, such as logits")
    tapped, level = Tapped(joint, names, dataset=dataset), joint.config.level
    check_alike(embeddings, level)
    channels = [each.shapes[level][0] for each in embeddings]
    if channels != joint.config.channels:
        raise UserError(f"embeddings: have {channels} channels, but the joint teacher takes {joint.config.channels}")
    at = one_device(device).device
    tapped.to(at)

    def compute(rows: Rows, view: int) -> dict[str, Tensor]:
        seen = [{level: read_rows(each.arrays[level], rows, view).float().to(at)} for each in embeddings]
        outputs: dict[str, Tensor] = tapped(seen)
        return {name: outputs[name] for name in names}

    count, views = len(embeddings[0]), embeddings[0].views
    with at_rest(tapped):
        return _write(Path(directory), compute, count, views, dtype, batch_size, overwrite=overwrite)


def _check_options(dtype: str, batch_size: int) -> None:
    if dtype not in STORED_DTYPES:
        raise UserError(f"dtype: {dtype!r}, expected one of {', '.join(STORED_DTYPES)}")
    if batch_size < 1:
        raise UserError(f"batch_size: {batch_size}, expected at least 1")


def check_alike(caches: Sequence[Cache], level: str) -> None:
    """Raise UserError unless all caches have a level of the same samples in as many views."""
    if not caches or not all(isinstance(each, Cache) for each in caches):
        found = "none are given" if not caches else "some are no Cache"
        raise UserError(f"embeddings: {found}, expected a list with a Cache by each teacher")
    for each in caches:
        if level not in each.names:
            raise UserError(f"{each.directory}: holds no {level}, but {', '.join(each.names)}")
        first = caches[0]
        if (each.split, each.views) != (first.split, first.views) or not np.array_equal(each.ids, first.ids):
            raise UserError(
                f"{each.directory}: has {each.views} views of {len(each)} samples of {each.split}, but"
                f" {first.directory} has {first.views} of {len(first)} of {first.split}; expected the same samples"
            )


def _views(views: Samples | Sequence[Samples]) -> list[Samples]:
    return list(views) if isinstance(views, Sequence) else [views]


def _count(views: Sequence[Samples]) -> int:
    """The number of samples in each view."""
    try:
        counts = {len(each) for each in views}  # type: ignore[arg-type]
    except TypeError as error:
        raise UserError("views: a dataset has no length, expected one with `__len__` and `__getitem__`") from error
    if not all(hasattr(each, "__getitem__") for each in views):
        raise UserError("views: are no tensors or datasets; of a DataLoader, give its dataset")
    if len(counts) != 1 or 0 in counts:
        raise UserError(f"views: have {', '.join(map(str, sorted(counts)))} samples, expected equally many, and some")
    return counts.pop()


def _samples(samples: Samples, rows: Rows) -> Tensor:
    """Some samples of a tensor or a dataset as a batch."""
    if isinstance(samples, Tensor):
        return samples[rows] if isinstance(rows, slice) else samples[torch.from_numpy(rows)]
    numbers = range(len(samples))[rows] if isinstance(rows, slice) else rows.tolist()  # type: ignore[arg-type]
    items = [samples[number] for number in numbers]
    found = [each[0] if isinstance(each, tuple | list) else each for each in items]
    for number, each in zip(numbers, found, strict=True):
        if not isinstance(each, Tensor) or each.shape != found[0].shape:
            what = tuple(each.shape) if isinstance(each, Tensor) else type(each).__name__
            raise UserError(f"views: sample {number} is {what}, expected tensors of one shape")
    return torch.stack(found)


def _write(
    directory: Path,
    compute: Callable[[Rows, int], dict[str, Tensor]],
    count: int,
    views: int,
    dtype: Dtype,
    batch_size: int,
    *,
    overwrite: bool,
) -> Cache:
    """A cache of the training split, written beside its place and then moved there."""
    there = {path.name for path in directory.iterdir()} if directory.is_dir() else set()
    if there == {STORE} and not overwrite:
        raise UserError(f"{directory}: holds a cache; read it with Cache, or give overwrite=True to replace it")
    if there - {STORE} or (directory.exists() and not directory.is_dir()):
        raise UserError(f"{directory}: is no cache of yours; expected a directory that is new, or empty")
    directory = directory.absolute()
    info = DatasetInfo(OWN, (), Modality(), (), (), {"train": count})
    split = Labelled(info, "train", np.zeros(count, np.int64), np.arange(count))
    layouts = CacheOptions(dtype=dtype).stored(shapes_of(compute(slice(0, 1), 0)), 0)
    partial = directory.with_name(f"{directory.name}{PARTIAL}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        write_store(partial, [ComputedSplit(split, layouts, views, batch_size, compute)])
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    if directory.exists():
        shutil.rmtree(directory)
    partial.rename(directory)
    return Cache(directory)
