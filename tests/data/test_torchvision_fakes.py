"""What torchvision's tests write in place of the datasets is read, too: in the layouts that its readers expect."""

from __future__ import annotations

import pickle
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import torch
from PIL import Image

from kd.data.sources.flowers102 import CLASSES as FLOWER_NAMES
from tests.data.test_official_images import read


def folder_of_images(folder: Path, names: list[str]) -> None:
    """Colour images of 3 to 10 pixels a side."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in names:
        height, width = rng.integers(3, 11, 2)
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(folder / name)


def splits(name: str, root: Path, **options: Any) -> dict[str | None, int]:
    samples = read(name, root, **options).samples
    assert all(min(sample.open().size) >= 3 for sample in samples)
    return dict(Counter(sample.split for sample in samples))


def test_cifar100__of_tensors(tmp_path: Path) -> None:
    """No coarse labels, no names of files."""
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    for name in ("train", "test"):
        content = {"data": torch.randint(0, 256, (1, 3072), dtype=torch.uint8), "fine_labels": [random.randint(0, 99)]}
        with (folder / name).open("wb") as stream:
            pickle.dump(content, stream)
    with (folder / "meta").open("wb") as stream:
        pickle.dump({"fine_label_names": [f"{number:02d}" for number in range(100)]}, stream)
    assert splits("cifar100", tmp_path) == {"train": 1, "test": 1}


def test_caltech101__with_an_empty_background(tmp_path: Path) -> None:
    images, outlines = tmp_path / "caltech101" / "101_ObjectCategories", tmp_path / "caltech101" / "Annotations"
    for name, outline in (("Faces", "Faces_2"), ("helicopter", "helicopter"), ("ying_yang", "ying_yang")):
        folder_of_images(images / name, ["image_0001.jpg", "image_0002.jpg"])
        (outlines / outline).mkdir(parents=True)
        for number in (1, 2):
            file = outlines / outline / f"annotation_{number:04d}.mat"
            scipy.io.savemat(file, {"obj_contour": np.ones((2, 2 + number))})
    (images / "BACKGROUND_Google").mkdir()
    for root in (tmp_path, tmp_path / "caltech101", images):
        assert splits("caltech101", root) == {None: 6}
        assert splits("caltech101", root, protocol="mlfd") == {"train": 4, "test": 2}


def test_flowers102__of_twelve_images(tmp_path: Path) -> None:
    folder = tmp_path / "flowers-102"
    folder_of_images(folder / "jpg", [f"image_{number:05d}.jpg" for number in range(1, 13)])
    labels = np.random.default_rng(0).integers(1, 4, (1, 12)).astype(np.uint8)
    scipy.io.savemat(folder / "imagelabels.mat", {"labels": labels})
    ids = np.random.default_rng(1).permutation(np.arange(1, 13, dtype=np.uint16))
    scipy.io.savemat(folder / "setid.mat", {"trnid": ids[:5], "valid": ids[5:9], "tstid": ids[9:]})
    assert splits("flowers102", tmp_path) == {"train": 5, "val": 4, "test": 3}
    shown = {sample.id: sample.labels for sample in read("flowers102", tmp_path).samples}
    names = {f"image_{number:05d}.jpg": (FLOWER_NAMES[label - 1],) for number, label in enumerate(labels[0], start=1)}
    assert shown == names


def test_oxford_pets__one_list_with_repetitions_and_rogues(tmp_path: Path) -> None:
    """Four lines are drawn from nine images, so some stand twice; class 38 is beyond the official 37."""
    folder = tmp_path / "oxford-iiit-pet"
    rows = [
        (f"{breed}_{number}", label, species, -1)
        for breed, label, species in (("Abyssinian", 1, 1), ("keeshond", 19, 2), ("yorkshire_terrier", 38, 2))
        for number in (1, 2, 10)
    ]
    folder_of_images(folder / "images", [f"{name}.jpg" for name, *_ in rows])
    folder_of_images(folder / "annotations" / "trimaps", [f"{name}.png" for name, *_ in rows])
    for number in range(2):
        (folder / "images" / f"{rows[number][0]}.mat").touch()
        (folder / "annotations" / "trimaps" / f"._{rows[number][0]}.png").touch()
    for split, chosen in (("trainval", [0, 8, 8, 3]), ("test", [1, 1, 1, 1])):
        lines = "".join(" ".join(map(str, rows[at])) + "\r\n" for at in chosen)
        (folder / "annotations" / f"{split}.txt").write_bytes(lines.encode())
        own = {"trainval": "train", "test": "test"}[split]
        assert splits("oxford_pets", tmp_path) == {own: len(set(chosen))}
        assert read("oxford_pets", tmp_path).notes["duplicates merged"] == 4 - len(set(chosen))
        (folder / "annotations" / f"{split}.txt").unlink()
    assert splits("oxford_pets", tmp_path, protocol="mlfd") == {"train": 7, "test": 2}


def test_cub200__without_lists_of_classes(tmp_path: Path) -> None:
    """The mock that torchvision had for it."""
    folder = tmp_path / "CUB_200_2011"
    names = []
    for bird in ("001.Black_footed_Albatross", "100.Brown_Pelican", "200.Common_Yellowthroat"):
        files = [f"{bird[4:]}_{number:04d}.jpg" for number in range(5)]
        folder_of_images(folder / "images" / bird, files)
        names += [f"{bird}/{file}" for file in files]
    (folder / "images.txt").write_text("".join(f"{number} {name}\n" for number, name in enumerate(names, start=1)))
    (folder / "train_test_split.txt").write_text("".join(f"{number} {number % 2}\n" for number in range(1, 16)))
    (folder / "bounding_boxes.txt").write_text("".join(f"{number} 1.0 2.0 3.0 4.0\n" for number in range(1, 16)))
    assert splits("cub200", tmp_path) == {"train": 8, "test": 7}
    assert splits("cub200", tmp_path, protocol="mlfd") == {"train": 12, "test": 3}
