"""Tiny copies of official image datasets, laid out on disk as their archives unpack, with what is odd in them.

Each function gives the dataset's own folder, below `root`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from PIL import Image

from tests.data.layouts import draw_image

WNIDS = ("n02124075", "n01443537", "n03444034")
"""In an order that is not sorted, as in wnids.txt."""
CALTECH = {"BACKGROUND_Google": 4, "Faces": 3, "Faces_easy": 3, "accordion": 5}
BIRDS = ("001.Black_footed_Albatross", "100.Brown_Pelican", "108.White_necked_Raven")
PETS = {"Abyssinian": 1, "american_bulldog": 2, "Bombay": 8}
"""Breeds with their numbers."""


def write_lines(file: Path, lines: Sequence[str], end: str = "\n") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes("".join(line + end for line in lines).encode())


def draw_grey(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (12, 10), 90).save(path)


def draw_as(path: Path, kind: str) -> None:
    """An image of another kind than its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new({"GIF": "P", "PNG": "RGBA"}[kind], (12, 10)).save(path, format=kind)


# CIFAR-100

FINE = ("apple", "aquarium_fish", "baby")


def as_python2(value: Any) -> bytes:
    """A pickle as Python 2 made those of CIFAR: text of one byte a character, and numpy's modules of that time."""
    return b"\x80\x02" + _python2(value) + b"."


def _python2(value: Any) -> bytes:
    if isinstance(value, dict):
        return b"}(" + b"".join(_python2(each) for pair in value.items() for each in pair) + b"u"
    if isinstance(value, list):
        return b"](" + b"".join(map(_python2, value)) + b"e"
    if isinstance(value, tuple):
        return b"(" + b"".join(map(_python2, value)) + b"t"
    if isinstance(value, str | bytes):
        text = value.encode("latin1") if isinstance(value, str) else value
        return b"T" + struct.pack("<i", len(text)) + text
    if isinstance(value, np.ndarray):
        made = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n" + _python2((0,)) + _python2("b") + b"\x87R"
        kind = b"cnumpy\ndtype\n" + _python2(value.dtype.str[1:]) + _python2(0) + _python2(1) + b"\x87R"
        kind += b"(" + _python2(3) + _python2("|") + b"NNN" + _python2(-1) + _python2(-1) + _python2(0) + b"tb"
        state = _python2(1) + _python2(value.shape) + kind + b"\x89" + _python2(value.tobytes())
        return made + b"(" + state + b"tb"
    return b"J" + struct.pack("<i", value)


def cifar_pixels(count: int) -> np.ndarray:
    """(count, 3072) uint8: number n is red of value n, green of its columns, blue of its rows."""
    red = np.repeat(np.arange(count, dtype=np.uint8)[:, None], 1024, axis=1)
    columns = np.tile(np.arange(32, dtype=np.uint8), 32)
    rows = np.repeat(np.arange(32, dtype=np.uint8), 32)
    return np.hstack([red, np.tile(columns, (count, 1)), np.tile(rows, (count, 1))])


def cifar_content(split: str) -> dict[str, Any]:
    """What the pickle of a split holds."""
    count = {"train": 9, "test": 3}[split]
    labels = [number % len(FINE) for number in range(count)]
    names = [f"{FINE[label]}_s_{number:06d}.png" for number, label in enumerate(labels)]
    return {
        "filenames": names,
        "batch_label": f"{split}ing batch 1 of 1",
        "fine_labels": labels,
        "coarse_labels": [0] * count,
        "data": cifar_pixels(count),
    }


def make_cifar100(root: Path, write: Callable[[Any], bytes] = as_python2) -> Path:
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        (folder / split).write_bytes(write(cifar_content(split)))
    names = {"fine_label_names": list(FINE), "coarse_label_names": ["fruit"]}
    (folder / "meta").write_bytes(write(names))
    (folder / "file.txt~").write_text("")
    return folder


def make_cifar100_binary(root: Path) -> Path:
    folder = root / "cifar-100-binary"
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        content = cifar_content(split)
        labels = np.array([content["coarse_labels"], content["fine_labels"]], dtype=np.uint8).T
        (folder / f"{split}.bin").write_bytes(np.hstack([labels, content["data"]]).tobytes())
    write_lines(folder / "fine_label_names.txt", FINE)
    write_lines(folder / "coarse_label_names.txt", ["fruit"])
    return folder


# Folders of classes


def make_tiny_imagenet(root: Path) -> Path:
    """Three classes of four training images, one of them grey, and two of val; test has no labels."""
    folder = root / "tiny-imagenet-200"
    write_lines(folder / "wnids.txt", WNIDS)
    write_lines(folder / "words.txt", [f"{wnid}\tgoldfish, Carassius auratus" for wnid in (*WNIDS, "n00001740")])
    for wnid in WNIDS:
        names = [f"{wnid}_{number}.JPEG" for number in range(4)]
        for name in names[1:]:
            draw_image(folder / "train" / wnid / "images" / name)
        draw_grey(folder / "train" / wnid / "images" / names[0])
        write_lines(folder / "train" / wnid / f"{wnid}_boxes.txt", [f"{name}\t0\t32\t44\t62" for name in names])
    lines = []
    for number in range(2 * len(WNIDS)):
        draw_image(folder / "val" / "images" / f"val_{number}.JPEG")
        draw_image(folder / "test" / "images" / f"test_{number}.JPEG")
        lines.append(f"val_{number}.JPEG\t{WNIDS[number // 2]}\t0\t32\t44\t62")
    write_lines(folder / "val" / "val_annotations.txt", lines)
    return folder


def make_imagenet_sketch(root: Path) -> Path:
    folder = root / "sketch"
    for wnid in WNIDS:
        draw_grey(folder / wnid / "sketch_0.JPEG")
        for number in range(1, 5):
            draw_image(folder / wnid / f"sketch_{number}.JPEG")
    return folder


def make_caltech101(root: Path, place: str = "caltech-101/101_ObjectCategories") -> Path:
    """Also Annotations beside it, what macOS adds, and the stray file in BACKGROUND_Google."""
    folder = root / place
    for name, count in CALTECH.items():
        for number in range(1, count + 1):
            (draw_grey if number == 2 else draw_image)(folder / name / f"image_{number:04d}.jpg")
    (folder / "BACKGROUND_Google" / "tmp").write_bytes(b"\0")
    write_mat(folder.parent / "Annotations" / "Faces_2" / "annotation_0001.mat", obj_contour=np.ones((2, 3)))
    (root / "__MACOSX").mkdir(exist_ok=True)
    return folder


# Lists


def write_mat(file: Path, **rows: Any) -> None:
    """A file of MATLAB 5 as those of Flowers are."""
    file.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(file, rows, do_compression=True)


FLOWERS: Mapping[str, Sequence[int]] = {"trnid": (3, 1, 2, 12), "valid": (9, 10), "tstid": (8, 4, 11, 5, 7, 6)}


def make_flowers102(root: Path, images: str = "jpg") -> Path:
    """Twelve images of the classes 1, 60 and 102."""
    for number in range(1, 13):
        draw_image(root / images / f"image_{number:05d}.jpg")
    write_mat(root / "imagelabels.mat", labels=np.array([[(1, 60, 102)[number % 3] for number in range(12)]], np.uint8))
    write_mat(root / "setid.mat", **{key: np.array([numbers], np.uint16) for key, numbers in FLOWERS.items()})
    return root


def make_cub200(root: Path) -> Path:
    """Four images of each of three classes, one of them grey; and attributes.txt beside the folder."""
    folder, lists = root / "CUB_200_2011", {name: list[str]() for name in ("images", "labels", "split", "boxes")}
    for number, bird in enumerate(BIRDS * 4, start=1):
        name = f"{bird}/{bird[4:].title()}_{number:04d}_{85000 + number}.jpg"
        (draw_grey if number == 2 else draw_image)(folder / "images" / name)
        lists["images"].append(f"{number} {name}")
        lists["labels"].append(f"{number} {int(bird[:3])}")
        lists["split"].append(f"{number} {int(number <= 6)}")
        lists["boxes"].append(f"{number} 60.0 27.0 325.0 304.0")
    write_lines(folder / "images.txt", lists["images"])
    write_lines(folder / "image_class_labels.txt", lists["labels"])
    write_lines(folder / "train_test_split.txt", lists["split"])
    write_lines(folder / "bounding_boxes.txt", lists["boxes"])
    write_lines(folder / "classes.txt", [f"{int(bird[:3])} {bird}" for bird in BIRDS])
    write_lines(root / "attributes.txt", ["1 has_bill_shape::curved_(up_or_down)"])
    return folder


def make_oxford_pets(root: Path) -> Path:
    """Six images of each of three breeds, of which number 6 is in no list; some are GIF, PNG or grey.

    Beside them lie what MATLAB and macOS left there.
    """
    images, lists = root / "images", {name: list[str]() for name in ("trainval", "test")}
    for breed, number in PETS.items():
        for place in range(1, 7):
            draw_image(images / f"{breed}_{place}.jpg")
            if place < 6:
                species = 1 if breed[0].isupper() else 2
                lists["trainval" if place < 4 else "test"].append(f"{breed}_{place} {number} {species} 1")
    draw_as(images / "Abyssinian_6.jpg", "GIF")
    draw_as(images / "Abyssinian_5.jpg", "PNG")
    draw_grey(images / "Bombay_6.jpg")
    for rogue in ("Abyssinian_100.mat", "Abyssinian_101.mat"):
        (images / rogue).write_bytes(b"MATLAB 5.0")
    for name, lines in lists.items():
        write_lines(root / "annotations" / f"{name}.txt", lines)
    everything = ["#Image CLASS-ID SPECIES BREED ID", *lists["trainval"], *lists["test"]]
    write_lines(root / "annotations" / "list.txt", everything)
    draw_grey(root / "annotations" / "trimaps" / "Bombay_1.png")
    (root / "annotations" / "trimaps" / "._Bombay_1.png").write_bytes(b"Mac OS X")
    return root


MAKERS: dict[str, Callable[[Path], Path]] = {
    "cifar100": make_cifar100,
    "tiny_imagenet": make_tiny_imagenet,
    "imagenet_sketch": make_imagenet_sketch,
    "caltech101": make_caltech101,
    "flowers102": make_flowers102,
    "cub200": make_cub200,
    "oxford_pets": make_oxford_pets,
}
