"""`flowers102`: Oxford Flowers 102: 1,020 images of train, 1,020 of val and 6,149 of test, of 102 classes.

Nilsback and Zisserman, "Automated Flower Classification over a Large Number of Classes", ICVGIP 2008. The dataset's own
folder has jpg/image_00001.jpg (or images/), imagelabels.mat with `labels`, a class from 1 to 102 for each image, and
setid.mat with `trnid`, `valid` and `tstid`, the numbers of images of each split, from 1.

With `protocol: mlfd` train and test are train, 7,169 images, and val is test.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

from kd.common.errors import UserError, shown
from kd.data.sources.base import Archive, Listing
from kd.data.sources.clean import ListEntry
from kd.data.sources.files import tree_digest
from kd.data.sources.official import ListedOptions, counted, dataset_folder, listed_images

# In the order of their numbers; the data do not have them.
CLASSES = (
    *("pink primrose", "hard-leaved pocket orchid", "canterbury bells", "sweet pea", "english marigold", "tiger lily"),
    *("moon orchid", "bird of paradise", "monkshood", "globe thistle", "snapdragon", "colt's foot", "king protea"),
    *("spear thistle", "yellow iris", "globe-flower", "purple coneflower", "peruvian lily", "balloon flower"),
    *("giant white arum lily", "fire lily", "pincushion flower", "fritillary", "red ginger", "grape hyacinth"),
    *("corn poppy", "prince of wales feathers", "stemless gentian", "artichoke", "sweet william", "carnation"),
    *("garden phlox", "love in the mist", "mexican aster", "alpine sea holly", "ruby-lipped cattleya", "cape flower"),
    *("great masterwort", "siam tulip", "lenten rose", "barbeton daisy", "daffodil", "sword lily", "poinsettia"),
    *("bolero deep blue", "wallflower", "marigold", "buttercup", "oxeye daisy", "common dandelion", "petunia"),
    *("wild pansy", "primula", "sunflower", "pelargonium", "bishop of llandaff", "gaura", "geranium"),
    *("orange dahlia", "pink-yellow dahlia?", "cautleya spicata", "japanese anemone", "black-eyed susan"),
    *("silverbush", "californian poppy", "osteospermum", "spring crocus", "bearded iris", "windflower"),
    *("tree poppy", "gazania", "azalea", "water lily", "rose", "thorn apple", "morning glory", "passion flower"),
    *("lotus", "toad lily", "anthurium", "frangipani", "clematis", "hibiscus", "columbine", "desert-rose"),
    *("tree mallow", "magnolia", "cyclamen", "watercress", "canna lily", "hippeastrum", "bee balm", "ball moss"),
    *("foxglove", "bougainvillea", "camellia", "mallow", "mexican petunia", "bromelia", "blanket flower"),
    *("trumpet creeper", "blackberry lily"),
)

HOST = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102"
ARCHIVES = (
    Archive(
        f"{HOST}/102flowers.tgz",
        "sha256:2d01ecc807db462958cfe3d92f57a8c252b4abd240eb955770201e45f783b246",
        344_862_509,
    ),
    Archive(f"{HOST}/imagelabels.mat", "sha256:4903e94206bac23bf772aadf06451916df56b58fc483a62db32a97b82656651d", 502),
    Archive(f"{HOST}/setid.mat", "sha256:46b8678f91fd95d3c8f4feab80d271a6c834a1dd896fe29fd3e6ad9ce5c8dccd", 14_989),
)

SPLITS = {
    "official": {"trnid": "train", "valid": "val", "tstid": "test"},
    "mlfd": {"trnid": "train", "tstid": "train", "valid": "test"},
}
OFFICIAL = {
    "official": {"classes": 102, "train": 1020, "val": 1020, "test": 6149},
    "mlfd": {"classes": 102, "train": 7169, "test": 1020},
}


# Of files of MATLAB 5.
MATRIX, COMPRESSED = 14, 15
NUMBERS = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 9: "d", 12: "q", 13: "Q"}
"""Types of elements, as struct names them."""
REAL = range(6, 16)
"""Classes of arrays of numbers."""
Variable = tuple[tuple[int, ...], tuple[float, ...]]
"""Shape and values."""
MOST_BYTES = 2**24
"""Of a variable; the official ones have 16 kB."""


class Options(ListedOptions):
    """Where the dataset lies, how it is split, and what is done about faults of setid.mat."""


def fingerprint(options: Options) -> dict[str, Any]:
    """Digest of path, size and modification time of both lists and all images."""
    folder = _folder(options)
    return {"files": tree_digest(_images(folder), folder / "imagelabels.mat", folder / "setid.mat")}


def read(options: Options) -> Listing:
    """Ids are names of files such as `image_00001.jpg`."""
    folder = _folder(options)
    listed = list(_listed(folder, SPLITS[options.protocol]))
    return counted(listed_images(_images(folder), listed, options).listing(), OFFICIAL[options.protocol])


def _folder(options: Options) -> Path:
    return dataset_folder(options.root, "setid.mat", ("flowers-102", "."))


def _images(folder: Path) -> Path:
    return folder / "images" if (folder / "images").is_dir() and not (folder / "jpg").is_dir() else folder / "jpg"


def _listed(folder: Path, splits: dict[str, str]) -> Iterator[ListEntry]:
    file = folder / "imagelabels.mat"
    (labels,) = _numbers(file, "labels")
    for number, label in enumerate(labels, start=1):
        if not 1 <= label <= len(CLASSES):
            raise UserError(f"{file}: labels: image {number} has {label}, expected 1 to {len(CLASSES)}")
    file = folder / "setid.mat"
    for key, numbers in zip(splits, _numbers(file, *splits), strict=True):
        for at, number in enumerate(numbers, start=1):
            place = f"{file}: {key}, number {at}"
            if not 1 <= number <= len(labels):
                raise UserError(f"{place}: is image {number}, expected 1 to {len(labels)}, which have labels")
            name = f"image_{number:05d}.jpg"
            yield ListEntry(name, _images(folder) / name, (CLASSES[labels[number - 1] - 1],), splits[key], place)


def _numbers(file: Path, *keys: str) -> list[list[int]]:
    """Rows of whole numbers from a file of MATLAB.

    Raises:
        UserError: it is no such file, or does not hold these.
    """
    try:
        content = _variables(file.read_bytes())
    except OSError as error:
        raise UserError(f"source.root: {file}: cannot be read ({error.strerror})") from error
    except (ValueError, LookupError, struct.error, zlib.error) as error:
        raise UserError(f"{file}: is no file of MATLAB 5 that can be read ({shown(error)})") from error
    rows = []
    for key in keys:
        if key not in content:
            raise UserError(f"{file}: holds no {key}; it holds {shown(sorted(content))}")
        shape, values = content[key]
        if sorted(shape)[:-1] != [1] or prod(shape) != len(values) or any(value % 1 for value in values):
            raise UserError(f"{file}: {key} has shape {shape}, expected one row of whole numbers")
        rows.append([int(value) for value in values])
    return rows


def _variables(data: bytes) -> dict[str, Variable]:
    """The variables in a file of MATLAB 5 (MathWorks, "MAT-File Format"). A damaged one makes scipy end the process.

    Raises:
        ValueError, LookupError, struct.error, zlib.error: it is none, or is damaged.
    """
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if order is None or struct.unpack(f"{order}H", data[124:126]) != (0x100,):
        raise ValueError("its first 128 bytes are not those of one")
    found: dict[str, Variable] = {}
    for kind, content in _elements(data[128:], order):
        if kind == MATRIX:
            found.update([_variable(content, order)])
        elif kind == COMPRESSED:
            inflate = zlib.decompressobj()
            inner = inflate.decompress(content, MOST_BYTES)
            if not inflate.eof:
                raise ValueError(f"a variable is cut short, or has more than {MOST_BYTES:,} bytes")
            found.update(_variable(matrix, order) for kind, matrix in _elements(inner, order) if kind == MATRIX)
    return found


def _variable(matrix: bytes, order: str) -> tuple[str, Variable]:
    """Name, and shape and values; no values of what is no array of numbers."""
    (_, flags), (_, shape), (_, name), *values = _elements(matrix, order)
    of, stored = "x", b""
    if values and struct.unpack_from(f"{order}I", flags)[0] & 0xFF in REAL:
        of, stored = NUMBERS[values[0][0]], values[0][1]
    numbers = struct.unpack(f"{order}{len(stored) // struct.calcsize(of)}{of}", stored)
    return name.decode("latin1"), (struct.unpack(f"{order}{len(shape) // 4}i", shape), numbers)


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Type and content of each element."""
    at = 0
    while at < len(data):
        kind, size = struct.unpack_from(f"{order}II", data, at)
        start, end = at + 8, at + 8 + size + (0 if kind == COMPRESSED else -size % 8)
        if kind >> 16:  # a small one: its size, its type, and four bytes of content
            kind, size, start, end = kind & 0xFFFF, kind >> 16, at + 4, at + 8
        if start + size > min(end, len(data)):
            raise ValueError("an element is cut short")
        yield kind, data[start : start + size]
        at = end
