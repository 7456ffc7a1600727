"""Folders of class folders: what is read, what is left out and said, and what is refused."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from kd.common.errors import UserError
from kd.data.sources import image_folder
from kd.data.sources.base import Listing, split_of
from kd.data.sources.files import HIDDEN, IMAGES, LOOPS, OUTSIDE, SPECIAL
from tests.data.layouts import draw_image


def read(root: Path, **options: Any) -> Listing:
    return image_folder.read(image_folder.Options(root=root, **options))


def digest(root: Path) -> Any:
    return image_folder.fingerprint(image_folder.Options(root=root))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for label in ("cat", "dog"):
        for number in range(3):
            draw_image(tmp_path / "images" / label / f"{number}.png", 10 * number)
    return tmp_path / "images"


def test_image_folder__classes_are_folders(folder: Path) -> None:
    (folder / "cat" / "notes.txt").write_text("not an image")
    (folder / "cat" / ".hidden.png").write_text("not an image")
    samples = image_folder.read(image_folder.Options(root=folder)).samples
    expected = [f"{label}/{number}.png" for label in ("cat", "dog") for number in range(3)]
    assert sorted(sample.id for sample in samples) == expected
    assert all(sample.split is None and sample.labels == (sample.id.split("/")[0],) for sample in samples)


def test_image_folder__split_folders_are_splits(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        draw_image(tmp_path / split / "a" / "0.png")
    samples = image_folder.read(image_folder.Options(root=tmp_path)).samples
    assert {(sample.id, sample.split) for sample in samples} == {
        (f"{split}/a/0.png", split) for split in ("train", "val", "test")
    }


def test_image_folder__fingerprint_follows_content_not_order(folder: Path, tmp_path: Path) -> None:
    options = image_folder.Options(root=folder)
    before = image_folder.fingerprint(options)
    copy = tmp_path / "copy"
    for path in sorted(folder.rglob("*.png"), reverse=True):
        target = copy / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    assert image_folder.fingerprint(image_folder.Options(root=copy)) == before
    os.utime(folder / "cat" / "0.png", (1, 1))
    assert image_folder.fingerprint(options) != before


def test_image_folder__validation_is_val_and_other_folders_beside_train_are_refused(tmp_path: Path) -> None:
    for split in ("train", "validation", "test"):
        draw_image(tmp_path / split / "a" / "0.png")
    samples = image_folder.read(image_folder.Options(root=tmp_path)).samples
    assert {sample.split for sample in samples} == {"train", "val", "test"}
    draw_image(tmp_path / "extra" / "a" / "0.png")
    with pytest.raises(
        UserError, match=r"for splits and beside it \['extra'\]; expected only folders such as train, val"
    ):
        image_folder.fingerprint(image_folder.Options(root=tmp_path))


def test_image_folder__mistakes(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere is not a folder"):
        image_folder.fingerprint(image_folder.Options(root=tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no class folders"):
        image_folder.fingerprint(image_folder.Options(root=tmp_path / "empty"))
    (folder / "fox").mkdir()
    (folder / "fox" / "photo.heic").touch()
    with pytest.raises(
        UserError, match=r"class folder .*fox holds no images; .*; .* by their names left out \(.heic\)"
    ):
        image_folder.fingerprint(image_folder.Options(root=folder))


@pytest.mark.parametrize(
    ("split", "words"),
    [
        ("train", "train Train TRAINING trainset train_set Training-Set train2017 train_data"),
        ("val", "val Valid VALIDATION dev Development val_set validation2012 dev-set"),
        ("test", "test Testing eval Evaluation TestSet test2007 test_images"),
        (None, "trainer contest valley cat set 2017 trains test1 evaluate the_train"),
    ],
)
def test_split_of__knows_the_common_words_in_any_case(split: str | None, words: str) -> None:
    assert {word: split_of(word) for word in words.split()} == dict.fromkeys(words.split(), split)
    assert split_of("") is None
    assert split_of(" train set\n") == "train"


@pytest.mark.parametrize("names", [("Train", "Test"), ("Training", "Testing"), ("train_set", "dev", "eval")])
def test_image_folder__split_folders_may_have_other_names(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        for label in ("cat", "dog"):
            draw_image(tmp_path / name / label / "0.png")
    samples = read(tmp_path).samples
    assert {(sample.id.split("/")[0], sample.split) for sample in samples} == {(name, split_of(name)) for name in names}
    assert {sample.labels for sample in samples} == {("cat",), ("dog",)}


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        ("train/cat Training/cat", r"\['Training', 'train'\] both mean train; merge or rename them; or say .*: no"),
        ("train/cat test/cat Eval/cat", r"\['Eval', 'test'\] both mean test"),
        ("train/cat dog cat", r"has \['train'\] for splits and beside it \['cat', 'dog'\]; expected only"),
        ("dev ops design", r"has \['dev'\] for splits and beside it \['design', 'ops'\]"),
        ("test/cat val/cat", r"has \['test', 'val'\], but no folder for train; or say"),
        ("cat/train cat/test dog/train", "cat/test looks like a split within a class"),
        ("train/cat val", "val holds no class folders"),
    ],
)
def test_image_folder__folders_that_may_be_splits_or_classes_are_refused(
    tmp_path: Path, folders: str, said: str
) -> None:
    for folder in folders.split():
        draw_image(tmp_path / folder / "0.png")
    with pytest.raises(UserError, match=said):
        digest(tmp_path)


def test_image_folder__an_option_says_what_folders_are(tmp_path: Path) -> None:
    for folder in ("train", "Training", "car"):
        draw_image(tmp_path / folder / "dev" / "0.png")
    samples = read(tmp_path, split_folders=False).samples
    assert {(sample.labels[0], sample.split) for sample in samples} == {
        (label, None) for label in ("train", "Training", "car")
    }
    with pytest.raises(UserError, match=r"beside it \['car'\]; expected only folders such as train, val and test$"):
        read(tmp_path, split_folders=True)
    shutil.rmtree(tmp_path / "train")
    shutil.rmtree(tmp_path / "Training")
    with pytest.raises(UserError, match=r"has no folder for splits and beside it \['car'\]"):
        read(tmp_path, split_folders=True)


def test_image_folder__hidden_and_system_files_count_at_every_level_and_change_nothing(folder: Path) -> None:
    before, ids = digest(folder), {sample.id for sample in read(folder).samples}
    assert read(folder).notes == {}
    hidden = [".git/x.png", "__MACOSX/cat/x.png", "cat/.ipynb_checkpoints/x.png", "cat/._0.png", "dog/@eaDir/x.png"]
    systems = ["Thumbs.db", "dog/desktop.ini", "lost+found/x.png", "$RECYCLE.BIN/x.png", "cat/~$0.png"]
    for name in hidden + systems:
        draw_image(folder / "cat" / "deep" / "1.png")
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        shutil.copy(folder / "cat" / "0.png", folder / name)
    shutil.rmtree(folder / "cat" / "deep")
    assert digest(folder) == before
    assert {sample.id for sample in read(folder).samples} == ids
    assert read(folder).notes == {HIDDEN: len(hidden + systems)}


def test_image_folder__says_what_it_leaves_out_and_reads_every_ending(folder: Path) -> None:
    before = digest(folder)
    for name in ("cat/a.txt", "cat/b.TXT", "dog/c.docx", "dog/README", "labels.csv"):
        (folder / name).write_text("text")
    os.mkfifo(folder / "cat" / "pipe.png")
    draw_image(folder / "outside.png")
    note = "files that are no images by their names left out (.txt, .csv, .docx, no ending)"
    assert read(folder).notes == {note: 5, SPECIAL: 1, OUTSIDE: 1}
    assert digest(folder) == before
    for number, ending in enumerate((".jfif", ".JPE", ".JPG", ".jp2", ".webp", ".avif", ".tga", ".Pnm")):
        image = Image.new("RGB", (9, 9))
        image.save(folder / "dog" / f"new{number}{ending}")
    assert len(read(folder).samples) == 6 + 8
    assert all(sample.open().size in ((9, 9), (12, 10)) for sample in read(folder).samples)
    assert not IMAGES.has("cat.d/jpg")


def test_image_folder__links_to_nothing_are_refused_and_others_followed(folder: Path, tmp_path: Path) -> None:
    draw_image(tmp_path / "elsewhere" / "fox" / "0.png")
    (folder / "fox").symlink_to(tmp_path / "elsewhere" / "fox")
    (folder / "cat" / "linked.png").symlink_to(tmp_path / "elsewhere" / "fox" / "0.png")
    assert {sample.id for sample in read(folder).samples} >= {"fox/0.png", "cat/linked.png"}
    for link, target in (("cat/lost.png", "nowhere.png"), ("bird", "nowhere"), ("dog/self.png", "self.png")):
        (folder / link).symlink_to(target)
        with pytest.raises(UserError, match=rf"1 links lead nowhere, such as {link}; mend or remove"):
            digest(folder)
        (folder / link).unlink()


def test_image_folder__links_in_circles_come_to_an_end(folder: Path) -> None:
    before = digest(folder)
    (folder / "cat" / "up").symlink_to("..")
    (folder / "cat" / "self").symlink_to(".")
    (folder / "dog" / "far").symlink_to("../cat")
    ids = {sample.id for sample in read(folder).samples}
    assert ids == {f"{label}/{number}.png" for label in ("cat", "dog", "dog/far") for number in range(3)}
    assert read(folder).notes == {LOOPS: 4}  # both in cat, which is found again in dog
    assert digest(folder) != before


def test_image_folder__a_folder_that_cannot_be_read_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = os.scandir

    def refuse(path: str) -> Any:
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match=rf"{folder}/dog: cannot be read \(Permission denied\)"):
        digest(folder)


def test_image_folder__names_that_are_not_utf8_work(folder: Path) -> None:
    for name in (b"cat/caf\xe9.png", b"m\xf6we/\xff\xfe.png"):
        draw_image(folder / os.fsdecode(name))
    samples = {sample.id: sample for sample in read(folder).samples if "\\" in sample.id}
    assert set(samples) == {r"cat/caf\xe9.png", r"m\xf6we/\xff\xfe.png"}
    assert samples[r"m\xf6we/\xff\xfe.png"].labels == (r"m\xf6we",)
    assert all(sample.open().size == (12, 10) for sample in samples.values())
    (folder / os.fsdecode(b"cat/caf\xe9.png")).write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"caf\\xe9.png: is not an image"):
        samples[r"cat/caf\xe9.png"].open()
    (folder / os.fsdecode(b"\xe4")).mkdir()
    with pytest.raises(UserError, match=r"class folder .*\\xe4 holds no images"):
        digest(folder)
