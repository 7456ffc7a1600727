"""`cifar100`: CIFAR-100: 50,000 training and 10,000 test images of 32 x 32 pixels, 100 classes.

Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009. The dataset's own folder is cifar-100-python,
with the pickles train, test and meta; or cifar-100-binary, with train.bin, test.bin and fine_label_names.txt.
About a tenth of the test images are nearly those of train (Barz and Denzler, "Do We Train on Test Data?", 2020).

With `protocol: mlfd` it is the same.

Nothing in a pickle is executed: what it names stands for itself, and the arrays are made of the bytes that it holds.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Sequence
from functools import partial
from io import BytesIO
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd.common.errors import UserError, shown
from kd.data.sources.base import Archive, Listing, Sample
from kd.data.sources.clean import read_lines
from kd.data.sources.files import tree_digest
from kd.data.sources.official import OfficialOptions, counted, dataset_folder

if TYPE_CHECKING:
    import numpy as np

ARCHIVES = (
    Archive(
        "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        "md5:eb9058c3a382ffc7106e4002c42a8d85",
        169_001_437,
    ),
)

OFFICIAL = {"classes": 100, "train": 50_000, "test": 10_000}
SPLITS = ("train", "test")
PYTHON, BINARY = ("train", "test", "meta"), ("train.bin", "test.bin", "fine_label_names.txt")
EDGE = 32
PIXELS = 3 * EDGE * EDGE
RECORD = 2 + PIXELS  # of train.bin: coarse label, fine label, image

# What files of CIFAR may name: arrays of any version of numpy, and tensors, which torchvision's tests have there.
ENCODED, TENSOR, STORAGE = "_codecs.encode", "torch._utils._rebuild_tensor_v2", "torch.storage._load_from_bytes"
BUILT = {"numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"}
BUFFERED = {"numpy.core.numeric._frombuffer", "numpy._core.numeric._frombuffer"}
NAMES = BUILT | BUFFERED | {ENCODED, TENSOR, STORAGE, "numpy.ndarray", "numpy.dtype", "collections.OrderedDict"}


class Options(OfficialOptions):
    """Where the dataset lies, and how it is split."""


def fingerprint(options: Options) -> dict[str, Any]:
    """Digest of path, size and modification time of the files that are read."""
    folder, names = _files(options)
    return {"files": tree_digest(*(folder / name for name in names))}


def read(options: Options) -> Listing:
    """Classes are called as in `aquarium_fish`; ids are places in the files, such as `train/00042`."""
    from PIL import Image

    folder, names = _files(options)
    parts = _read_binary(folder) if names == BINARY else _read_pickles(folder)
    samples = [
        Sample(f"{split}/{number:05d}", (label,), partial(Image.fromarray, image), split)
        for split, (images, labels) in zip(SPLITS, parts, strict=True)
        for number, (image, label) in enumerate(zip(images, labels, strict=True))
    ]
    return counted(Listing(samples), OFFICIAL)


def _files(options: Options) -> tuple[Path, tuple[str, ...]]:
    """The folder, and what is read of it."""
    folder = dataset_folder(options.root, "train*", ("cifar-100-python", "cifar-100-binary", "."))
    return folder, BINARY if (folder / BINARY[0]).exists() else PYTHON


Part = tuple["np.ndarray", list[str]]
"""Images of a split, (N, 32, 32, 3) uint8, and their classes."""


def _part(place: str, pixels: np.ndarray, labels: Sequence[Any], names: list[str]) -> Part:
    """Check one split.

    Args:
        place: of its labels, for error messages.
        pixels: (N, 3072) uint8: red, green and blue, each row by row.
        labels: N numbers of classes.
        names: of the classes.
    """
    if len(labels) != len(pixels):
        raise UserError(f"{place} has {len(labels)} labels, expected {len(pixels)}, one for each image")
    for number, label in enumerate(labels):
        if type(label) is not int or not 0 <= label < len(names):
            raise UserError(f"{place}: image {number} has {shown(repr(label))}, expected 0 to {len(names) - 1}")
    return pixels.reshape(-1, 3, EDGE, EDGE).transpose(0, 2, 3, 1), [names[label] for label in labels]


def _read_binary(folder: Path) -> list[Part]:
    """Both splits of the files of records."""
    import numpy as np

    *files, names = (folder / name for name in BINARY)
    classes = [name for _, name in read_lines(names)]
    parts = []
    for file in files:
        data = np.frombuffer(_bytes(file), dtype=np.uint8)
        if not len(data) or len(data) % RECORD:
            raise UserError(f"{file}: has {len(data):,} bytes, expected a multiple of {RECORD:,}, one for each image")
        records = data.reshape(-1, RECORD)
        parts.append(_part(f"{file}: fine label", records[:, 2:], records[:, 1].tolist(), _distinct(names, classes)))
    return parts


def _read_pickles(folder: Path) -> list[Part]:
    """Both splits of the pickles."""
    file = folder / "meta"
    names = _field(file, _unpickled(file), "fine_label_names", list)
    names = [name.decode("latin1") if isinstance(name, bytes) else name for name in names]
    if not all(isinstance(name, str) for name in names):
        raise UserError(f"{file}: fine_label_names has something that is no text, expected names of classes")
    parts = []
    for split in SPLITS:
        file = folder / split
        content = _unpickled(file)
        labels, data = _field(file, content, "fine_labels", list), _field(file, content, "data", _Named)
        try:
            pixels = _array(data)
        except Exception as error:  # of numpy or torch, about parts that do not fit
            what = shown(error) or type(error).__name__
            raise UserError(f"{file}: data is no array of uint8 that can be read ({what})") from error
        if pixels.ndim != 2 or pixels.shape[1] != PIXELS:
            raise UserError(f"{file}: data has shape {pixels.shape}, expected (N, {PIXELS})")
        parts.append(_part(f"{file}: fine_labels", pixels, labels, _distinct(folder / "meta", names)))
    return parts


def _distinct(file: Path, names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise UserError(f"{file}: has {len(names)} names of classes, {len(set(names))} of them distinct; expected all")
    return names


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"source.root: {file}: cannot be read ({error.strerror})") from error


class _Named:
    """What a pickle would have called: its name, and what it was given. It is not called.

    Attributes:
        name: of module and function or class.
        given: arguments.
        state: what the result would have been told afterwards.
    """

    def __init__(self, name: str, *given: Any) -> None:
        self.name, self.given = name, given
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Unpickler(pickle.Unpickler):
    """Reads plain values, and `_Named` for everything else."""

    def find_class(self, module: str, name: str) -> Any:
        """Something that stands for what is named."""
        if (full := f"{module}.{name}") not in NAMES:
            raise pickle.UnpicklingError(f"it names {shown(full)}, which is not executed; expected arrays and lists")
        return partial(_Named, full)


def _unpickled(file: Path) -> dict[str, Any]:
    """The mapping in a pickle, made by Python 2 or 3.

    Raises:
        UserError: the file cannot be read, or is anything else.
    """
    data = _bytes(file)
    try:
        content = _Unpickler(BytesIO(data), encoding="bytes").load()
    except Exception as error:  # pickle raises whatever it meets in a damaged file
        what = shown(error) or type(error).__name__
        raise UserError(f"{file}: is no pickle of CIFAR-100 that can be read ({what})") from error
    if not isinstance(content, dict):
        raise UserError(f"{file}: is a pickle of {_kind(content)}, expected a mapping, as in CIFAR-100")
    return {key.decode("latin1") if isinstance(key, bytes) else key: value for key, value in content.items()}


def _field(file: Path, content: dict[str, Any], key: str, kind: type[Any]) -> Any:
    if key not in content:
        raise UserError(f"{file}: has no {key}, expected it as in CIFAR-100; it has {shown(sorted(map(str, content)))}")
    value = content[key]
    if not isinstance(value, kind):
        raise UserError(f"{file}: {key} is {_kind(value)}, expected {'a list' if kind is list else 'an array'}")
    return value


def _kind(value: Any) -> str:
    return value.name if isinstance(value, _Named) else type(value).__name__


def _array(value: _Named) -> np.ndarray:
    """The array that a pickle describes.

    Raises:
        Exception: it describes no array of uint8.
    """
    import numpy as np

    if value.name == TENSOR:
        return _tensor(*value.given[:4])
    if value.name in BUILT:
        _, shape, dtype, fortran, data = value.state
    elif value.name in BUFFERED:
        data, dtype, shape, order = value.given[:4]
        fortran = {"C": False, "F": True}[order]
    else:
        raise ValueError(f"it is {value.name}")
    code = dtype.given[0]
    if code not in ("u1", b"u1"):
        raise ValueError(f"its type is {code!r}")
    data = _content(data)
    if len(data) != prod(shape):
        raise ValueError(f"its shape is {shape}, and it has {len(data)} bytes")
    return np.frombuffer(data, np.uint8).reshape(shape, order="F" if fortran else "C")


def _content(data: Any) -> Any:
    """Bytes, also where Python 3 wrote them for Python 2."""
    return data.given[0].encode("latin1") if isinstance(data, _Named) and data.name == ENCODED else data


def _tensor(storage: _Named, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> np.ndarray:
    """The same for a tensor of torch; its storage is a file of torch, which is opened without executing anything."""
    import numpy as np
    import torch

    values = torch.load(BytesIO(_content(storage.given[0])), weights_only=True)
    if values.dtype != torch.uint8:
        raise ValueError(f"its type is {values.dtype}")
    with warnings.catch_warnings(action="ignore"):  # this kind of storage is one of older versions of torch
        pixels = torch.empty(0, dtype=torch.uint8).set_(values.untyped(), offset, size, stride)
    return np.asarray(pixels.contiguous())
