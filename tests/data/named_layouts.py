"""Tiny datasets in the layouts that torchvision, the `datasets` library and WebDataset read; and archives."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from PIL import Image

from kd.config.schema import DatasetConfig
from kd.data.options import SplitOptions, Task
from kd.data.sources.base import parse_source
from kd.jobs.run import Context
from kd.stages import prepare_dataset


def pixels(seed: int, shape: tuple[int, ...] = (10, 12, 3)) -> np.ndarray:
    """Random uint8 that no other seed has."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def image_bytes(seed: int, form: str = "PNG", shape: tuple[int, ...] = (10, 12, 3)) -> bytes:
    """An image file."""
    stream = io.BytesIO()
    Image.fromarray(pixels(seed, shape)).save(stream, form)
    return stream.getvalue()


def write(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def pack_source(directory: Path, source: dict[str, Any], task: Task, split: SplitOptions) -> dict[str, Any]:
    """Pack a dataset as its job does; what the job notes of it."""
    dataset = DatasetConfig.model_validate({"source": source, "task": task, "image_size": 16})
    module, options = parse_source(dataset.source)
    spec = prepare_dataset.Spec(
        name="toy",
        source=dataset.source,
        fingerprint=module.fingerprint(options),
        modality="image",
        sample=dataset.samples.model_dump(mode="json"),
        task=task,
        split=split,
    )
    directory.mkdir()
    notes: dict[str, Any] = prepare_dataset.build(Context(spec, {}, directory)).result["notes"]
    return notes


# torchvision


def make_mnist(root: Path, labels: Mapping[str, Sequence[int]]) -> Path:
    """`MNIST/raw` with unpacked idx files; image n of a split is `pixels(n)`."""
    for split, values in labels.items():
        name = {"train": "train", "test": "t10k"}[split]
        images = np.stack([pixels(number, (28, 28)) for number in range(len(values))])
        header = b"".join(number.to_bytes(4, "big") for number in (0x803, len(values), 28, 28))
        write(root / f"MNIST/raw/{name}-images-idx3-ubyte", header + images.tobytes())
        header = b"".join(number.to_bytes(4, "big") for number in (0x801, len(values)))
        write(root / f"MNIST/raw/{name}-labels-idx1-ubyte", header + bytes(values))
    return root


def make_svhn(root: Path, labels: Mapping[str, Sequence[int]]) -> Path:
    """`train_32x32.mat` and so on: X is (32, 32, 3, N), y is (N, 1) with 10 for the digit 0."""
    for split, values in labels.items():
        images = np.stack([pixels(number, (32, 32, 3)) for number in range(len(values))], axis=-1)
        content = {"X": images, "y": np.array(values, np.uint8)[:, None]}
        scipy.io.savemat(root / f"{split}_32x32.mat", content)
    return root


def make_cifar10(root: Path) -> Path:
    """`cifar-10-batches-py`: five batches of two images and one of test, in rows of 3,072 values; `batches.meta`."""
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    for number, file in enumerate([*(f"data_batch_{place}" for place in range(1, 6)), "test_batch"]):
        images = [pixels(2 * number + place, (32, 32, 3)).transpose(2, 0, 1).reshape(-1) for place in range(2)]
        batch = {"data": np.stack(images), "labels": [(2 * number + place) % 10 for place in range(2)]}
        write(root / "cifar-10-batches-py" / file, pickle.dumps(batch))
    write(root / "cifar-10-batches-py/batches.meta", pickle.dumps({"label_names": names}))
    return root


def make_eurosat(root: Path) -> Path:
    """`eurosat/2750/CLASS/CLASS_n.jpg`."""
    for number, name in enumerate(("AnnualCrop", "Forest", "River")):
        for place in (1, 2):
            content = image_bytes(10 * number + place, "JPEG")
            write(root / f"eurosat/2750/{name}/{name}_{place}.jpg", content)
    return root


def make_gtsrb(root: Path) -> Path:
    """`gtsrb/GTSRB/Training/00000/*.ppm` with a list beside them, and a test split with its labels in a table."""
    for label in range(3):
        folder = root / f"gtsrb/GTSRB/Training/{label:05d}"
        for place in range(2):
            write(folder / f"00000_{place:05d}.ppm", image_bytes(10 * label + place, "PPM"))
        write(folder / f"GT-{label:05d}.csv", "Filename;ClassId\n")
    rows = ["Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"]
    for place, label in enumerate((2, 0)):
        write(root / f"gtsrb/GTSRB/Final_Test/Images/{place:05d}.ppm", image_bytes(50 + place, "PPM"))
        rows.append(f"{place:05d}.ppm;12;10;1;1;9;9;{label}")
    write(root / "gtsrb/GT-final_test.csv", "\n".join(rows) + "\n")
    return root


def make_pets(root: Path) -> Path:
    """`oxford-iiit-pet/images/Breed_n.jpg`, and lists with breed, species and breed within the species, from 1."""
    breeds = [("Abyssinian", 1), ("american_bulldog", 2), ("american_pit_bull_terrier", 2), ("Bengal", 1)]
    for split, number in (("trainval", 1), ("test", 2)):
        lines = []
        for label, (breed, species) in enumerate(breeds, start=1):
            write(root / f"oxford-iiit-pet/images/{breed}_{number}.jpg", image_bytes(10 * label + number, "JPEG"))
            lines.append(f"{breed}_{number} {label} {species} 1")
        write(root / f"oxford-iiit-pet/annotations/{split}.txt", "\n".join(lines) + "\n")
    return root


def make_stl10(root: Path) -> Path:
    """`stl10_binary`: images of 96 x 96 by channel and column, labels from 1, and images without a label."""
    for name, labels in (("train", [1, 2, 10]), ("test", [2, 1]), ("unlabeled", [])):
        images = [pixels(number, (3, 96, 96)).tobytes() for number in range(len(labels) or 2)]
        write(root / f"stl10_binary/{name}_X.bin", b"".join(images))
        if labels:
            write(root / f"stl10_binary/{name}_y.bin", bytes(labels))
    names = ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"]
    write(root / "stl10_binary/class_names.txt", "\n".join(names) + "\n")
    write(root / "stl10_binary/fold_indices.txt", "0 1\n" * 10)
    return root


# Archives

FOLDER = {f"{label}/{number}.png": 10 * at + number for at, label in enumerate(("cat", "dog")) for number in range(3)}
"""By path, the seeds of images in class folders."""


def make_folder(root: Path, images: Mapping[str, int] = FOLDER) -> Path:
    for name, seed in images.items():
        write(root / name, image_bytes(seed))
    return root


def make_zip(file: Path, members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file


def add_member(archive: tarfile.TarFile, name: str, content: bytes = b"", **fields: Any) -> None:
    """A member with further fields of its header, such as its type."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    archive.addfile(info, io.BytesIO(content))


def make_tar(file: Path, members: Mapping[str, bytes | str], mode: Any = "w") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, mode) as archive:
        for name, content in members.items():
            add_member(archive, name, content.encode() if isinstance(content, str) else content)
    return file


# Hugging Face

CLASS_LABEL: dict[str, Any] = {"names": ["cat", "dog", "fox"], "_type": "ClassLabel"}
IMAGE: dict[str, Any] = {"_type": "Image"}


def make_table(columns: Mapping[str, Any], features: Mapping[str, Any] | None = None) -> Any:
    """A table as the `datasets` library stores it: images as bytes and path, and features as JSON beside the schema.

    Columns called image have the seeds of images, or what is stored in their place.
    """
    import pyarrow as pa

    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    arrays = {}
    for name, values in columns.items():
        if "image" in name:
            seeds = [each if isinstance(each, int) else None for each in values]
            made = [None if seed is None else {"bytes": image_bytes(seed), "path": f"{seed}.png"} for seed in seeds]
            stored = [each if found is None else found for each, found in zip(values, made, strict=True)]
            arrays[name] = pa.array(stored, image)
        else:
            arrays[name] = pa.array(values)
    table = pa.table(arrays)
    if features is None:
        return table
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def write_arrow(file: Path, table: Any) -> Path:
    """A stream of batches of two rows, as the library writes it."""
    import pyarrow as pa

    file.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return file


def write_parquet(file: Path, table: Any) -> Path:
    """A Parquet file with groups of two rows."""
    from pyarrow import parquet

    file.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, file, row_group_size=2)
    return file


def save_to_disk(root: Path, tables: Mapping[str, Sequence[Any]]) -> Path:
    """As a DatasetDict does, with a folder for each split, or for the one split `.` as a Dataset does."""
    for split, files in tables.items():
        names = [f"data-{number:05d}-of-{len(files):05d}.arrow" for number in range(len(files))]
        for name, table in zip(names, files, strict=True):
            write_arrow(root / split / name, table)
        state: dict[str, Any] = {
            "_data_files": [{"filename": name} for name in names],
            "_fingerprint": "c0ffee0123456789",
            "_format_columns": None,
            "_format_kwargs": {},
            "_format_type": None,
            "_output_all_columns": False,
            "_split": None if split == "." else split,
        }
        write(root / split / "state.json", json.dumps(state))
        write(root / split / "dataset_info.json", json.dumps({"citation": "", "features": {}}))
    if set(tables) != {"."}:
        write(root / "dataset_dict.json", json.dumps({"splits": list(tables)}))
    return root
