"""Splits of 80/20 as MLFD draws them: their sizes are the paper's, and only ids and labels decide."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from kd.data.sources.clean import ListEntry
from kd.data.sources.files import Found
from kd.data.sources.official import drawn
from tests.data.test_official_images import read


def entries(sizes: list[int]) -> list[ListEntry]:
    """As many images of each class."""
    return [
        ListEntry(f"{label:04d}/{number}.jpg", Path(f"{label}/{number}.jpg"), (f"{label:04d}",), None, "")
        for label, size in enumerate(sizes)
        for number in range(size)
    ]


def sizes_of(classes: int, images: int, *, least: int, most: int) -> list[int]:
    """Sizes of classes, of that sum."""
    rng = random.Random(0)
    sizes = [least] * classes
    while sum(sizes) < images:
        at = rng.randrange(classes)
        sizes[at] += min(most - sizes[at], images - sum(sizes), rng.randint(1, 20))
    return sizes


PAPER = {
    "caltech101": ([467, *sizes_of(101, 8677, least=31, most=800)], 7315, 1829),
    "cub200": (sizes_of(200, 11_788, least=41, most=60), 9430, 2358),
    "imagenet_sketch": (sizes_of(1000, 50_889, least=40, most=51), 40_712, 10_177),
    "oxford_pets, of 7,383": ([200] * 34 + [191, 199, 193], 5906, 1477),
    "oxford_pets": ([200] * 35 + [191, 199], 5912, 1478),
}


@pytest.mark.parametrize("name", PAPER)
def test_drawn__has_the_sizes_of_the_paper_and_of_each_class_its_share(name: str) -> None:
    sizes, train, test = PAPER[name]
    found = drawn(entries(sizes), up=name != "imagenet_sketch")
    assert Counter(each.split for each in found) == {"train": train, "test": test}
    shares = Counter(each.labels[0] for each in found if each.split == "test")
    for label, size in enumerate(sizes):
        assert abs(shares[f"{label:04d}"] - size / 5) < 1


def test_drawn__depends_on_ids_alone() -> None:
    listed = entries(sizes_of(10, 333, least=3, most=80))
    test = {each.id for each in drawn(listed) if each.split == "test"}
    assert len(test) == 67
    random.Random(1).shuffle(listed)
    shuffled = drawn(listed)
    assert {each.id for each in shuffled if each.split == "test"} == test
    assert [each.id for each in shuffled] == [each.id for each in listed]
    assert {each.id.split("/")[1] for each in listed if each.id in test} != {f"{number}.jpg" for number in range(7)}


def test_drawn__leaves_training_images_to_every_class() -> None:
    for sizes in ([1, 1, 1, 1, 1], [1, 2, 3], [2, 2], [1, 30], [3]):
        found = drawn(entries(sizes))
        assert sum(each.split == "test" for each in found) == -(-sum(sizes) // 5)
    found = drawn(entries([1, 2, 30]))
    assert {each.labels for each in found if each.split == "train"} == {each.labels for each in found}


def whole(name: str) -> list[str]:
    """Paths of all images, with classes of the sizes above."""
    sizes = PAPER[name][0]
    if name == "caltech101":
        classes = ["BACKGROUND_Google", *(f"class{number}" for number in range(101))]
        return [f"{each}/image_{at:04d}.jpg" for each, size in zip(classes, sizes, strict=True) for at in range(size)]
    if name == "oxford_pets":
        return [f"breed{breed}_{at}.jpg" for breed, size in enumerate(sizes) for at in range(size)]
    form, image = ("{:03d}.Bird_{}", "{}/Bird_{}.jpg") if name == "cub200" else ("n{:08d}", "{}/sketch_{}.JPEG")
    return [image.format(form.format(number, number), at) for number, size in enumerate(sizes) for at in range(size)]


@pytest.mark.parametrize("name", [name for name in PAPER if "," not in name])
def test_mlfd__whole_datasets_have_the_sizes_of_the_paper(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only one file of them is there: no image is opened to list them."""
    names = whole(name)
    images = tmp_path / {"cub200": "images", "oxford_pets": "images"}.get(name, "")
    (images / names[0]).parent.mkdir(parents=True)
    (images / names[0]).touch()
    status = (images / names[0]).stat()
    monkeypatch.setattr("kd.data.sources.files.find_kind", lambda *_: Found(dict.fromkeys(names, status)))
    _, train, test = PAPER[name]
    listing = read(name, tmp_path, protocol="mlfd")
    assert Counter(sample.split for sample in listing.samples) == {"train": train, "test": test}
    assert listing.notes == {}
    if name == "caltech101":
        official = read(name, tmp_path)
        assert len(official.samples) == 8677
        assert official.notes == {"images of BACKGROUND_Google left out": 467}
