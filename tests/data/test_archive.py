"""Archives of class folders: they mean what the unpacked folder means, and no fault of theirs passes unseen."""

from __future__ import annotations

import gc
import os
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kd.common.errors import UserError
from kd.data.options import SplitOptions
from kd.data.packed import open_split
from kd.data.sources import archive, image_folder
from kd.data.sources.base import Listing
from kd.data.sources.files import HIDDEN, OUTSIDE, SPECIAL
from kd.data.sources.members import MOST_BYTES
from tests.data.named_layouts import (
    FOLDER,
    add_member,
    image_bytes,
    make_folder,
    make_tar,
    make_zip,
    pack_source,
    pixels,
    write,
)

ENDINGS = {".zip": "zip", ".tar": "tar", ".tar.gz": "gztar", ".tar.bz2": "bztar", ".tar.xz": "xztar"}
every_ending = pytest.mark.parametrize("ending", ENDINGS)
IMAGES = {name: image_bytes(seed) for name, seed in FOLDER.items()}


def read(file: Path, **options: Any) -> Listing:
    return archive.read(archive.Options(file=file, **options))


def packed(folder: Path, ending: str) -> Path:
    """The folder, in an archive beside it."""
    base = folder.with_name(f"{folder.name}_packed")
    return Path(shutil.make_archive(str(base), ENDINGS[ending], folder))


def rows(listing: Listing) -> list[tuple[Any, ...]]:
    return sorted((each.id, each.labels, each.split, each.open().tobytes()) for each in listing.samples)


@every_ending
def test_archive__means_what_the_folder_means(tmp_path: Path, ending: str) -> None:
    images = {f"{split}/{name}": seed for split in ("Training", "valid", "test") for name, seed in FOLDER.items()}
    root = make_folder(tmp_path / "root", images)
    for name in ("train.csv", "Training/cat/notes.txt", "test/dog/deep/1.png", "Training/0.png"):
        write(root / name, IMAGES["cat/0.png"])
    for name in (".git/0.png", "__MACOSX/cat/._0.png", "test/dog/Thumbs.db"):
        write(root / name, b"no image")
    for options in ({}, {"split_folders": True}, {"split_folders": False}):
        unpacked = image_folder.read(image_folder.Options(root=root, **options))
        listing = read(packed(root, ending), **options)
        assert rows(listing) == rows(unpacked)
        assert listing.notes == unpacked.notes
        assert listing.notes[HIDDEN] == 3


@every_ending
def test_archive__is_packed_as_the_folder_is(tmp_path: Path, ending: str) -> None:
    images = {f"{label}/{number}.png": 40 * at + number for at, label in enumerate("ab") for number in range(20)}
    root = make_folder(tmp_path / "root", images)
    (root / "a" / "notes.txt").touch()
    folder = {"type": "image_folder", "root": str(root)}
    source = {"type": "archive", "file": str(packed(root, ending))}
    sizes = SplitOptions(val=4, test=4)
    notes = [pack_source(tmp_path / each["type"], each, "single_label", sizes) for each in (folder, source)]
    assert notes[0] == notes[1] != {}
    for name in ("train", "val", "test"):
        one, other = (open_split(tmp_path / each["type"], name) for each in (folder, source))
        assert np.array_equal(one.images.read(), other.images.read())
        assert np.array_equal(one.labels, other.labels)


@every_ending
def test_archive__is_read_by_many_threads(tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compressed tar file is copied once for all of them, and the copy is gone with the samples."""
    copies: list[Any] = []
    copied = shutil.copyfileobj

    def counted(source: Any, target: Any, size: int) -> None:
        copies.append(target)
        copied(source, target, size)

    file = packed(make_folder(tmp_path / "root", FOLDER), ending)
    monkeypatch.setattr(shutil, "copyfileobj", counted)
    listing = read(file)
    assert copies == []  # a plan lists samples, and opens none
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda sample: np.asarray(sample.open()), listing.samples * 20))
    for sample, image in zip(listing.samples * 20, found, strict=True):
        assert np.array_equal(image, pixels(FOLDER[sample.id]))
    assert len(copies) == (ending not in (".zip", ".tar"))
    del listing, sample
    gc.collect()
    assert all(each.closed for each in copies)


def test_archive__is_known_by_its_content(tmp_path: Path) -> None:
    """That of Oxford Pets is a plain tar file in spite of its name."""
    plain = make_tar(tmp_path / "images.tar.gz", IMAGES)
    assert len(read(plain).samples) == 6
    assert len(read(make_zip(tmp_path / "images.tar", IMAGES)).samples) == 6


@pytest.mark.parametrize(
    ("prefix", "others", "top"),
    [
        ("data/", ["__MACOSX/data/cat/._0.png", ".DS_Store", "README.md", "data/list.csv"], "data/"),
        ("home/me/data/", [], "home/me/data/"),
        ("./data/", [], "data/"),
        ("data/train/", ["data/test/cat/0.png"], "data/"),
        ("train/", [], ""),  # a split, and not a folder around all
        ("data/train_set/", [], "data/"),
    ],
)
def test_archive__looks_through_a_folder_around_all(tmp_path: Path, prefix: str, others: list[str], top: str) -> None:
    members = {f"{prefix}{name}": content for name, content in IMAGES.items()}
    members |= dict.fromkeys(others, IMAGES["cat/0.png"])
    listing = read(make_tar(tmp_path / "data.tar", members))
    below = prefix.removeprefix("./").removeprefix(top)
    assert {each.id for each in listing.samples} >= {f"{below}{name}" for name in FOLDER}
    assert {each.labels for each in listing.samples} == {("cat",), ("dog",)}
    assert {each.split for each in listing.samples} <= ({"train", "test"} if below else {None})


def test_archive__looks_through_no_class(tmp_path: Path) -> None:
    only = {name: content for name, content in IMAGES.items() if name.startswith("cat")}
    deep = only | {"cat/deep/0.png": IMAGES["dog/0.png"]}
    for members in (only, deep):
        assert {each.labels for each in read(make_tar(tmp_path / "cat.tar", members)).samples} == {("cat",)}
    beside = {f"data/{name}": content for name, content in IMAGES.items()} | {"0.png": IMAGES["cat/0.png"]}
    listing = read(make_tar(tmp_path / "beside.tar", beside))
    assert {each.labels for each in listing.samples} == {("data",)}
    assert listing.notes == {OUTSIDE: 1}


def test_archive__leaves_out_links_and_what_leads_out_and_says_so(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "odd.tar", "w") as stream:
        for name, content in IMAGES.items():
            add_member(stream, name, content)
        add_member(stream, "cat/link.png", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add_member(stream, "dog/hard.png", type=tarfile.LNKTYPE, linkname="cat/0.png")
        add_member(stream, "dog/device.png", type=tarfile.CHRTYPE)
        add_member(stream, "dog/pipe.png", type=tarfile.FIFOTYPE)
        add_member(stream, "/tmp/cat/absolute.png", IMAGES["cat/0.png"])
        add_member(stream, "cat/../../up.png", IMAGES["cat/0.png"])
        add_member(stream, "cat//./double.png", IMAGES["cat/0.png"])
    listing = read(tmp_path / "odd.tar")
    assert {each.id for each in listing.samples} == {*FOLDER, "cat/double.png"}
    assert listing.notes == {archive.LINKS: 2, SPECIAL: 2, archive.ASTRAY: 2}


def test_archive__of_zip_leaves_out_links_and_reads_backslashes(tmp_path: Path) -> None:
    file = make_zip(tmp_path / "odd.zip", IMAGES)
    with zipfile.ZipFile(file, "a") as stream:
        link = zipfile.ZipInfo("cat/link.png")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        stream.writestr(link, "/etc/passwd")
        pipe = zipfile.ZipInfo("cat/pipe.png")
        pipe.create_system, pipe.external_attr = 3, 0o010666 << 16
        stream.writestr(pipe, "")
        dos = zipfile.ZipInfo("dog\\dos.png")
        dos.create_system = 0
        stream.writestr(dos, IMAGES["dog/0.png"])
        stream.writestr("/cat/absolute.png", IMAGES["dog/0.png"])
    listing = read(file)
    assert {each.id for each in listing.samples} == {*FOLDER, "dog/dos.png"}
    assert listing.notes == {archive.LINKS: 1, SPECIAL: 1, archive.ASTRAY: 1}


def test_archive__a_later_member_replaces_one_of_its_name(tmp_path: Path) -> None:
    file = make_tar(tmp_path / "twice.tar", IMAGES)
    with tarfile.open(file, "a") as stream:
        add_member(stream, "./cat/0.png", image_bytes(99))
    listing = read(file)
    assert len(listing.samples) == 6
    assert listing.notes == {archive.REPLACED: 1}
    opened = {each.id: np.asarray(each.open()) for each in listing.samples}
    assert np.array_equal(opened["cat/0.png"], pixels(99))


def test_archive__names_that_are_not_utf8_work(tmp_path: Path) -> None:
    members = {os.fsdecode(b"caf\xe9/" + name.encode()): content for name, content in IMAGES.items()}
    listing = read(make_tar(tmp_path / "latin.tar", {**members, "other/x/0.png": IMAGES["cat/0.png"]}))
    assert r"caf\xe9/cat/0.png" in {each.id for each in listing.samples}
    assert {each.labels[0] for each in listing.samples} == {r"caf\xe9", "other"}


def test_archive__fingerprint_is_that_of_the_file(tmp_path: Path) -> None:
    file = make_zip(tmp_path / "images.zip", IMAGES)
    options = archive.Options(file=file)
    before = archive.fingerprint(options)
    os.utime(file, (1, 1))
    assert archive.fingerprint(options) != before


def cut(file: Path, at: int) -> Path:
    file.write_bytes(file.read_bytes()[:at])
    return file


def edited(file: Path, *edits: tuple[int, bytes], find: bytes = b"") -> Path:
    """The file with other bytes at places, counted from where some bytes stand last."""
    content = bytearray(file.read_bytes())
    start = content.rfind(find) if find else 0
    for at, new in edits:
        content[start + at : start + at + len(new)] = new
    file.write_bytes(content)
    return file


def zipped(root: Path, method: int = zipfile.ZIP_DEFLATED) -> Path:
    return make_zip(root / "a.zip", IMAGES, method)


def tarred(root: Path, members: Any = IMAGES, mode: str = "w") -> Path:
    return make_tar(root / "a.tar", members, mode)


def joined(root: Path) -> Path:
    file, other = tarred(root), make_tar(root / "b.tar", IMAGES)
    file.write_bytes(file.read_bytes() + other.read_bytes())
    return file


CENTRAL = b"PK\1\2"  # of the last member: flags at 8, method at 10, bytes at 20 and 24
LISTED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "nowhere": (lambda root: root / "none.zip", r"source.file: .*none.zip is not a file; expected an archive$"),
    "folder": (lambda root: root, r"source.file: .* is not a file; expected an archive$"),
    "no archive": (
        lambda root: write(root / "a.zip", "Rar!" * 400),
        r"source.file: .*a.zip: is no archive that is known; expected a zip or a tar file$",
    ),
    "nothing": (lambda root: write(root / "a.tar", ""), "a.tar: is no archive that is known"),
    "empty zip": (lambda root: make_zip(root / "a.zip", {}), "source.file: .*a.zip holds no class folders"),
    "empty tar": (lambda root: tarred(root, {}), "source.file: .*a.tar holds no class folders"),
    "flat": (lambda root: tarred(root, {"0.png": b""}), "source.file: .*a.tar holds no class folders"),
    "empty class": (
        lambda root: tarred(root, {**IMAGES, "fox/notes.txt": b"", "fox/a.heic": b""}),
        r"source.file: class folder .*a.tar/fox holds no images; remove it or .* out \(.heic, .txt\): 2",
    ),
    "some splits": (
        lambda root: tarred(root, {**IMAGES, "train/cat/0.png": b""}),
        r"source.file: .*a.tar has \['train'\] for splits and beside it \['cat', 'dog'\]",
    ),
    "encrypted": (
        lambda root: edited(zipped(root), (8, b"\1"), find=CENTRAL),
        "a.zip: dog/2.png: is encrypted; pack it again without a password$",
    ),
    "method": (
        lambda root: edited(zipped(root), (10, b"\x09"), find=CENTRAL),
        "a.zip: dog/2.png: is compressed by method 9; expected stored, deflate, bzip2 or lzma$",
    ),
    "large in zip": (
        lambda root: edited(zipped(root), (24, struct.pack("<I", MOST_BYTES + 1)), find=CENTRAL),
        rf"a.zip: dog/2.png: has {MOST_BYTES + 1} bytes, and at most {MOST_BYTES} are read$",
    ),
    "cut zip": (lambda root: cut(zipped(root), -30), r"a.zip: cannot be unpacked \(File is not a zip file\); get the"),
    "cut tar": (lambda root: cut(tarred(root), 4000), r"a.tar: cannot be unpacked \(unexpected end of data\); get the"),
    "cut behind a member": (
        lambda root: cut(tarred(root), 512 + 512 * -(-len(IMAGES["cat/0.png"]) // 512)),
        "a.tar: is cut short: the zeros at its end are missing; get the archive again$",
    ),
    "cut gz": (
        lambda root: cut(tarred(root, mode="w:gz"), -40),
        r"a.tar: cannot be unpacked \(Compressed file ended before the end-of-stream marker was reached\)",
    ),
    "cut xz": (lambda root: cut(tarred(root, mode="w:xz"), -40), r"a.tar: cannot be unpacked \(Compressed file ended"),
    "damaged gz": (
        lambda root: edited(tarred(root, mode="w:gz"), (300, b"\0" * 200)),
        r"a.tar: (cannot be unpacked \(.+\)|is damaged: .*); get the archive again$",
    ),
    "damaged header": (
        lambda root: edited(tarred(root), (0, b"\xff"), find=b"dog/1.png"),
        r"a.tar: is damaged: no member begins at byte \d+; get the archive again$",
    ),
    "joined": (joined, r"a.tar: goes on behind its end at byte \d+; pack its members anew$"),
}


@pytest.mark.parametrize("fault", LISTED)
def test_archive__faults(tmp_path: Path, fault: str) -> None:
    make, said = LISTED[fault]
    file = make(tmp_path)
    with pytest.raises(UserError, match=said) as raised:
        read(file)
    assert len(str(raised.value).splitlines()) == 1


def test_archive__a_large_member_of_a_tar_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    file = tmp_path / "large.tar"
    with tarfile.open(file, "w") as stream:
        info = tarfile.TarInfo("cat/0.png")
        info.size = MOST_BYTES + 512
        stream.fileobj.write(info.tobuf())
    with file.open("r+b") as raw:
        raw.truncate(MOST_BYTES + 2048 + 512)
    with pytest.raises(
        UserError, match=r"large.tar: cat/0.png: has 1073742336 bytes, and at most 1073741824 are read$"
    ):
        read(file)
    assert file.stat().st_blocks < 1000


OPENED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "damaged": (
        lambda root: edited(zipped(root, zipfile.ZIP_STORED), (60, b"\0" * 20), find=b"dog/2.png\x89PNG"),
        r"a.zip: dog/2.png: cannot be unpacked \(Bad CRC-32 for file 'dog/2.png'\); get the archive again$",
    ),
    "smaller than said": (
        lambda root: edited(zipped(root), (24, struct.pack("<I", len(IMAGES["dog/2.png"]) + 9)), find=CENTRAL),
        r"a.zip: dog/2.png: unpacks to \d+ bytes, expected \d+ as the archive says; get",
    ),
    "larger than said": (
        lambda root: edited(zipped(root), (24, struct.pack("<I", 100)), find=CENTRAL),
        r"a.zip: dog/2.png: unpacks to more bytes, expected 100 as the archive says",
    ),
    "no image": (
        lambda root: tarred(root, IMAGES | {"dog/2.png": b"no image"}),
        "a.tar: dog/2.png: is not an image that can be decoded$",
    ),
    "cut image": (
        lambda root: tarred(root, IMAGES | {"dog/2.png": IMAGES["dog/2.png"][:-30]}, "w:gz"),
        "a.tar: dog/2.png: damaged image",
    ),
}


@pytest.mark.parametrize("fault", OPENED)
def test_archive__faults_of_members(tmp_path: Path, fault: str) -> None:
    """The others are read, in spite of them."""
    make, said = OPENED[fault]
    samples = {each.id: each for each in read(make(tmp_path)).samples}
    with pytest.raises(UserError, match=said) as raised:
        samples.pop("dog/2.png").open()
    assert len(str(raised.value).splitlines()) == 1
    for name, sample in samples.items():
        assert np.array_equal(np.asarray(sample.open()), pixels(FOLDER[name]))


def test_archive__that_has_become_shorter_is_told(tmp_path: Path) -> None:
    file = tarred(tmp_path)
    sample = read(file).samples[-1]
    cut(file, 2000)
    with pytest.raises(UserError, match=r"a.tar: dog/2.png: ends after 0 of \d+ bytes; get the archive again$"):
        sample.open()
    file.unlink()
    with pytest.raises(UserError, match=r"a.tar: dog/2.png: cannot be unpacked \(.*No such file or directory"):
        sample.open()


def test_archive__without_space_for_the_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    sample = read(tarred(tmp_path, mode="w:gz")).samples[0]
    monkeypatch.setattr(shutil, "copyfileobj", full)
    said = r"a.tar: cannot be unpacked in /.* \(No space left on device\); set TMPDIR to a folder that has the space$"
    with pytest.raises(UserError, match=said):
        sample.open()
