"""Official image datasets: each is read as its archives unpack, wherever its root points, and mistakes are one line."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from kd.common.errors import UserError
from kd.data.options import SplitOptions
from kd.data.sources.base import Listing, load_source, parse_source
from kd.data.sources.files import HIDDEN, OUTSIDE
from kd.data.sources.flowers102 import CLASSES as FLOWER_NAMES
from kd.data.sources.official import UNLISTED
from kd.stages import prepare_dataset
from tests.data.layouts import draw_image
from tests.data.official_layouts import BIRDS, CALTECH, FINE, MAKERS, PETS, WNIDS, draw_as, make_caltech101

every_set = pytest.mark.parametrize("name", MAKERS)


def read(name: str, root: Path | None, **options: Any) -> Listing:
    source: Any = load_source(name)
    listing: Listing = source.read(source.Options(root=root, **options))
    return listing


def digest(name: str, root: Path | None, **options: Any) -> Any:
    source: Any = load_source(name)
    return source.fingerprint(source.Options(root=root, **options))


def said(name: str, root: Path | None, **options: Any) -> str:
    """The error of reading it, which is a single line."""
    with pytest.raises(UserError) as raised:
        read(name, root, **options)
    text = str(raised.value)
    assert len(text.splitlines()) == 1
    return text


def rows(listing: Listing) -> list[tuple[str, tuple[str, ...], str | None]]:
    return sorted((sample.id, sample.labels, sample.split) for sample in listing.samples)


SPLITS: dict[str, dict[str, dict[str | None, int]]] = {
    "cifar100": {"official": {"train": 9, "test": 3}, "mlfd": {"train": 9, "test": 3}},
    "tiny_imagenet": {"official": {"train": 12, "test": 6}, "mlfd": {"train": 12, "test": 6}},
    "imagenet_sketch": {"official": {None: 15}, "mlfd": {"train": 12, "test": 3}},
    "caltech101": {"official": {None: 11}, "mlfd": {"train": 12, "test": 3}},
    "flowers102": {"official": {"train": 4, "val": 2, "test": 6}, "mlfd": {"train": 10, "test": 2}},
    "cub200": {"official": {"train": 6, "test": 6}, "mlfd": {"train": 9, "test": 3}},
    "oxford_pets": {"official": {"train": 9, "test": 6}, "mlfd": {"train": 14, "test": 4}},
}
CLASSES = {
    "cifar100": set(FINE),
    "tiny_imagenet": set(WNIDS),
    "imagenet_sketch": set(WNIDS),
    "caltech101": set(CALTECH) - {"BACKGROUND_Google"},
    "flowers102": {"pink primrose", "pink-yellow dahlia?", "blackberry lily"},
    "cub200": {"Black footed Albatross", "Brown Pelican", "White necked Raven"},
    "oxford_pets": set(PETS),
}
SHOWN = {
    "cifar100": ("test/00001", "aquarium_fish"),
    "tiny_imagenet": ("val/images/val_2.JPEG", WNIDS[1]),
    "imagenet_sketch": (f"{WNIDS[0]}/sketch_0.JPEG", WNIDS[0]),
    "caltech101": ("Faces_easy/image_0002.jpg", "Faces_easy"),
    "flowers102": ("image_00002.jpg", "pink-yellow dahlia?"),
    "cub200": ("108.White_necked_Raven/White_Necked_Raven_0003_85003.jpg", "White necked Raven"),
    "oxford_pets": ("american_bulldog_1.jpg", "american_bulldog"),
}


@every_set
@pytest.mark.parametrize("protocol", ["official", "mlfd"])
def test_every_set__is_read_and_every_image_opens(tmp_path: Path, name: str, protocol: str) -> None:
    listing = read(name, MAKERS[name](tmp_path), protocol=protocol)
    background = {"BACKGROUND_Google"} if (name, protocol) == ("caltech101", "mlfd") else set()
    assert {label for sample in listing.samples for label in sample.labels} == CLASSES[name] | background
    assert Counter(sample.split for sample in listing.samples) == SPLITS[name][protocol]
    assert SHOWN[name] in {(sample.id, *sample.labels) for sample in listing.samples}
    assert len({sample.id for sample in listing.samples}) == len(listing.samples)
    assert {sample.open().size for sample in listing.samples} == {(32, 32) if name == "cifar100" else (12, 10)}


@every_set
@pytest.mark.parametrize("protocol", ["official", "mlfd"])
def test_every_set__becomes_a_dataset_with_train_val_and_test(tmp_path: Path, name: str, protocol: str) -> None:
    source = {"type": name, "root": str(MAKERS[name](tmp_path)), "protocol": protocol}
    module, options = parse_source(source)
    spec = prepare_dataset.Spec(
        name="toy",
        source=source,
        fingerprint=module.fingerprint(options),
        modality="image",
        sample={"image_size": (32, 32)},
        task="single_label",
        split=SplitOptions(),
    )
    selection = prepare_dataset.select(spec)
    assert set(selection.codes) == {0, 1, 2}
    assert selection.classes == sorted(selection.classes)
    assert selection.channels == 3


PLACES = {
    "cifar100": ["cifar-100-python", ""],
    "tiny_imagenet": ["tiny-imagenet-200", ""],
    "imagenet_sketch": ["sketch", "ImageNet-Sketch/sketch", "images", "imagenet-sketch/images", ""],
    "caltech101": ["101_ObjectCategories", "caltech-101/101_ObjectCategories", "caltech101/101_ObjectCategories", ""],
    "flowers102": ["flowers-102", ""],
    "cub200": ["CUB_200_2011", ""],
    "oxford_pets": ["oxford-iiit-pet", ""],
}


@pytest.mark.parametrize(("name", "place"), [(name, place) for name, places in PLACES.items() for place in places])
def test_every_set__is_the_same_wherever_its_root_points(tmp_path: Path, name: str, place: str) -> None:
    folder = MAKERS[name](tmp_path / "made")
    root = tmp_path / "moved"
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    before = digest(name, folder), rows(read(name, folder))
    shutil.move(folder, root / place)
    assert (digest(name, root), rows(read(name, root))) == before
    assert (digest(name, root / place), rows(read(name, root / place))) == before


def test_flowers102__may_have_its_images_in_a_folder_images(tmp_path: Path) -> None:
    root = MAKERS["flowers102"](tmp_path)
    before = rows(read("flowers102", root))
    (root / "jpg").rename(root / "images")
    assert rows(read("flowers102", root)) == before


HOLDS = {
    "cifar100": r"cifar-100-python/train\* or cifar-100-binary/train\* or train\*",
    "tiny_imagenet": r"tiny-imagenet-200/val/val_annotations.txt or val/val_annotations.txt",
    "imagenet_sketch": r"sketch/n\[0-9\]\*/sketch_\*.JPEG or .* or n\[0-9\]\*/sketch_\*.JPEG",
    "caltech101": r"101_ObjectCategories/\*/image_\*.jpg or .* or \*/image_\*.jpg",
    "flowers102": r"flowers-102/setid.mat or setid.mat",
    "cub200": r"CUB_200_2011/images/\[0-9\]\* or images/\[0-9\]\*",
    "oxford_pets": r"oxford-iiit-pet/images/\*.jpg or images/\*.jpg",
}


@every_set
def test_every_set__that_is_not_there_is_one_line(tmp_path: Path, name: str) -> None:
    draw_image(tmp_path / "cats" / "0.jpg")
    expected = rf"source.root: {tmp_path} holds no {HOLDS[name]}; expected the dataset's own folder, or the one that"
    assert re.match(expected, said(name, tmp_path))
    assert said(name, tmp_path / "nowhere").startswith(f"source.root: {tmp_path}/nowhere is not a folder; expected")
    with pytest.raises(UserError, match="holds no"):
        digest(name, tmp_path)
    if name == "imagenet_sketch":
        with pytest.raises(ValidationError, match="root"):
            load_source(name).Options.model_validate({})
    else:
        assert "source.root: null, and no downloaded dataset; run `snakemake prefetch`" in said(name, None)


@every_set
def test_every_set__says_where_it_comes_from(name: str) -> None:
    """What is downloaded has a full checksum; what is not says where to get it."""
    source: Any = load_source(name)
    assert hasattr(source, "ARCHIVES") != hasattr(source, "BY_HAND")
    for archive in getattr(source, "ARCHIVES", ()):
        address, (kind, _, value) = urlparse(archive.address), archive.checksum.partition(":")
        assert address.scheme in ("http", "https")
        assert Path(address.path).suffix in (".zip", ".tgz", ".gz", ".mat")
        assert re.fullmatch(r"[0-9a-f]+", value)
        assert len(value) == {"md5": 32, "sha256": 64}[kind]
        assert archive.bytes > 0
    assert "https://" in getattr(source, "BY_HAND", "https://")


@every_set
@pytest.mark.parametrize("protocol", ["official", "mlfd"])
def test_every_set__fingerprint_follows_what_is_read(tmp_path: Path, name: str, protocol: str) -> None:
    folder = MAKERS[name](tmp_path)
    before = digest(name, folder, protocol=protocol)
    (folder / ".DS_Store").write_text("")
    assert digest(name, folder, protocol=protocol) == before
    own = {"cifar100": "train", "tiny_imagenet": "val/val_annotations.txt"}
    file = folder / own[name] if name in own else min(folder.rglob("*.[jJ][pP]*"))
    file.write_bytes(file.read_bytes() + b"\n")
    assert digest(name, folder, protocol=protocol) != before


FEWER = {
    "cifar100": {"classes": (97, 100), "images of train": (49991, 50000), "images of test": (9997, 10000)},
    "tiny_imagenet": {"classes": (197, 200), "images of train": (99988, 100000), "images of test": (9994, 10000)},
    "imagenet_sketch": {"classes": (997, 1000), "images": (50874, 50889)},
    "caltech101": {"classes": (98, 101), "images": (8666, 8677)},
    "flowers102": {
        "classes": (99, 102),
        "images of train": (1016, 1020),
        "images of val": (1018, 1020),
        "images of test": (6143, 6149),
    },
    "cub200": {"classes": (197, 200), "images of train": (5988, 5994), "images of test": (5788, 5794)},
    "oxford_pets": {"classes": (34, 37), "images of train": (3671, 3680), "images of test": (3663, 3669)},
}


@every_set
def test_every_set__says_how_many_images_lack_to_the_official_counts(tmp_path: Path, name: str) -> None:
    notes = read(name, MAKERS[name](tmp_path)).notes
    expected = {f"{what} fewer than the official {count:,}": lacking for what, (lacking, count) in FEWER[name].items()}
    assert expected.items() <= notes.items()
    assert not any("more than" in what for what in notes)


NOT_IMAGES = "files that are no images by their names left out"


def test_every_set__says_what_is_left_out(tmp_path: Path) -> None:
    notes = {name: read(name, make(tmp_path / name)).notes for name, make in MAKERS.items()}
    left = {
        name: {what: count for what, count in each.items() if "official" not in what} for name, each in notes.items()
    }
    assert left == {
        "cifar100": {},
        "tiny_imagenet": {f"{NOT_IMAGES} (.txt)": 4},  # boxes, and val_annotations.txt
        "imagenet_sketch": {},
        "caltech101": {f"{NOT_IMAGES} (no ending)": 1, "images of BACKGROUND_Google left out": 4},
        "flowers102": {},
        "cub200": {},
        "oxford_pets": {f"{NOT_IMAGES} (.mat)": 2, UNLISTED: 3},
    }


@pytest.mark.parametrize("name", ["tiny_imagenet", "flowers102", "cub200", "oxford_pets"])
def test_listed_sets__images_beside_the_list_and_hidden_files(tmp_path: Path, name: str) -> None:
    folder = MAKERS[name](tmp_path)
    before = read(name, folder)
    images = {"tiny_imagenet": "val/images", "flowers102": "jpg"}.get(name, "images")
    draw_image(folder / images / "extra.jpg")
    (folder / images / "._extra.jpg").write_bytes(b"Mac OS X")
    (folder / images / ".DS_Store").write_bytes(b"")
    after = read(name, folder)
    assert rows(after) == rows(before)
    assert after.notes[UNLISTED] == before.notes.get(UNLISTED, 0) + 1
    assert after.notes[HIDDEN] == 2


@pytest.mark.parametrize("name", ["tiny_imagenet", "imagenet_sketch", "caltech101", "cub200"])
def test_folders_of_classes__images_outside_and_links(tmp_path: Path, name: str) -> None:
    folder = MAKERS[name](tmp_path)
    top = {"tiny_imagenet": folder / "train", "cub200": folder / "images"}.get(name, folder)
    draw_image(top / "outside.jpg")
    assert read(name, folder, protocol="mlfd").notes[OUTSIDE] == 1
    (top / "lost.jpg").symlink_to("nowhere.jpg")
    assert said(name, folder, protocol="mlfd") == (
        f"source.root: {top}: 1 links lead nowhere, such as lost.jpg; mend or remove them"
    )


FOREIGN = {
    "tiny_imagenet": ("train", "tiny-imagenet-200/train/cats: is a folder of a class that wnids.txt does not list"),
    "imagenet_sketch": (".", "sketch/cats holds images; expected only folders such as n01440764"),
    "cub200": (
        "images",
        "images: folder 'cats' is not that of a class, expected one such as 001.Black_footed",
    ),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_folders_of_classes__that_are_none(tmp_path: Path, name: str) -> None:
    folder = MAKERS[name](tmp_path)
    place, message = FOREIGN[name]
    draw_image(folder / place / "cats" / "0.jpg")
    assert message in said(name, folder, protocol="mlfd")


def test_caltech101__as_mlfd_has_it_without_the_folder_between(tmp_path: Path) -> None:
    folder = make_caltech101(tmp_path, "caltech")
    assert {sample.labels[0] for sample in read("caltech101", folder, protocol="mlfd").samples} == set(CALTECH)


def test_caltech101__with_nothing_but_its_background(tmp_path: Path) -> None:
    folder = make_caltech101(tmp_path)
    for name in set(CALTECH) - {"BACKGROUND_Google"}:
        shutil.rmtree(folder / name)
    assert "holds no images in folders of classes; " in said("caltech101", folder)
    assert "images of BACKGROUND_Google left out: 4" in said("caltech101", folder)


def test_imagenet_sketch__classes_are_called_by_their_numbers(tmp_path: Path) -> None:
    """`crane` is the English name of two of them."""
    for wnid in ("n02012849", "n03126707"):
        draw_image(tmp_path / wnid / "sketch_0.JPEG")
    assert {sample.labels[0] for sample in read("imagenet_sketch", tmp_path).samples} == {"n02012849", "n03126707"}


@pytest.mark.parametrize("name", [name for name in MAKERS if name != "cifar100"])
def test_images__of_another_kind_than_their_names_say_open_and_damaged_ones_are_one_line(
    tmp_path: Path, name: str
) -> None:
    folder = MAKERS[name](tmp_path)
    file = max(path for path in folder.rglob("*") if path.suffix in (".jpg", ".JPEG") and "test" not in path.parts)

    def opened() -> Image.Image:
        (sample,) = (each for each in read(name, folder, protocol="mlfd").samples if str(file).endswith(each.id))
        image: Image.Image = sample.open()
        return image

    for kind in ("GIF", "PNG"):
        draw_as(file, kind)
        assert opened().size == (12, 10)
    Image.new("CMYK", (12, 10)).save(file)
    assert opened().mode == "CMYK"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file)
    whole = file.read_bytes()
    spoilt = {"damaged image": whole[: len(whole) // 2], "is not an image": b"\0" * 99, "is not an": b""}
    for message, content in spoilt.items():
        file.write_bytes(content)
        with pytest.raises(UserError, match=rf"{file.name}: {message}") as raised:
            opened()
        assert len(str(raised.value).splitlines()) == 1


def test_flowers102__has_102_names() -> None:
    assert len(set(FLOWER_NAMES)) == 102
    assert (FLOWER_NAMES[0], FLOWER_NAMES[59], FLOWER_NAMES[101]) == (
        "pink primrose",
        "pink-yellow dahlia?",
        "blackberry lily",
    )


def test_cub200__needs_no_lists_of_classes_but_these_must_agree(tmp_path: Path) -> None:
    folder = MAKERS["cub200"](tmp_path)
    before = rows(read("cub200", folder))
    text = (folder / "classes.txt").read_text()
    (folder / "classes.txt").write_text(text.replace(f"1 {BIRDS[0]}", "1 001.Laysan_Albatross"))
    expected = f"image_class_labels.txt, line 1: image 1 is of class 1 (001.Laysan_Albatross), but lies in {BIRDS[0]}"
    assert expected in said("cub200", folder)
    (folder / "classes.txt").unlink()
    assert rows(read("cub200", folder)) == before
