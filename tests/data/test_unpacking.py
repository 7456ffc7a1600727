"""What archives may hold, and where it goes."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from kd.common.errors import UserError
from kd.data import unpacking
from kd.data.unpacking import unpack
from tests.data.archives import tar, zipped

CONTENT = {"birds/heron/1.jpg": b"one", "birds/list.txt": b"1 heron", "./birds/wren/2.jpg": b"two"}


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("name", "archive"),
    ids=lambda value: "" if isinstance(value, bytes) else value,
    argvalues=[
        ("birds.zip", zipped(CONTENT)),
        ("birds.tar", tar(CONTENT, "")),
        ("birds.tgz", tar(CONTENT)),
        ("birds.tar.gz", tar(CONTENT, "")),  # named otherwise than it is, as those of Oxford's pets
        ("birds.tar.bz2", tar(CONTENT, "bz2")),
        ("birds.tar.xz", tar(CONTENT, "xz")),
    ],
)
def test_unpack__of_each_kind(tmp_path: Path, name: str, archive: bytes) -> None:
    (tmp_path / name).write_bytes(archive)
    unpack(tmp_path / name, tmp_path / "to")
    assert files_below(tmp_path / "to") == {str(Path(key)): value for key, value in CONTENT.items()}


def test_unpack__archives_in_an_archive_once_and_nothing_hidden(tmp_path: Path) -> None:
    inner = tar({"heron/1.jpg": b"one", "more.tar": tar({"deep": b""}, "")})
    outer = {"birds/images.tar.gz": inner, "__MACOSX/birds/._images.tar.gz": b"no archive", ".DS_Store": b""}
    (tmp_path / "birds.zip").write_bytes(zipped(outer))
    unpack(tmp_path / "birds.zip", tmp_path / "to")
    assert files_below(tmp_path / "to").keys() == {"birds/heron/1.jpg", "birds/more.tar"}


def member(kind: bytes, name: str = "birds/1.jpg", target: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = kind, target
        archive.addfile(entry)
    return buffer.getvalue()


def linked_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        entry = zipfile.ZipInfo("birds/1.jpg")
        entry.external_attr = 0o120777 << 16
        archive.writestr(entry, "/etc/passwd")
    return buffer.getvalue()


def stored_zip(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("birds/1.jpg", data)
    return buffer.getvalue()


OUTSIDE = "lies outside of the folder that it is unpacked in"
LINK = "birds/1.jpg is a link or a device, expected a file or a folder"


@pytest.mark.parametrize(
    ("archive", "said"),
    ids=lambda value: "" if isinstance(value, bytes) else value,  # bytes of gzip hold the time
    argvalues=[
        (tar({"../evil": b""}), f"../evil {OUTSIDE}"),
        (tar({"birds/../../evil": b""}), f"birds/../../evil {OUTSIDE}"),
        (tar({"/evil": b""}), f"/evil {OUTSIDE}"),
        (zipped({"../evil": b""}), f"../evil {OUTSIDE}"),
        (zipped({"..\\evil": b""}), OUTSIDE),
        (member(tarfile.SYMTYPE, target="/etc"), LINK),
        (member(tarfile.LNKTYPE, target="/etc/passwd"), "birds/1.jpg is a link|cannot be unpacked"),
        (member(tarfile.FIFOTYPE), LINK),
        (member(tarfile.CHRTYPE), LINK),
        (linked_zip(), "birds/1.jpg is a link, expected a file or a folder"),
        (b"no archive", "cannot be unpacked"),
        (b"", "cannot be unpacked"),
        (tar({"birds/1.jpg": bytes(range(256)) * 400})[:500], "cannot be unpacked"),
        (zipped({"birds/1.jpg": b"one" * 999})[:-40], "cannot be unpacked"),
        (stored_zip(b"one").replace(b"one", b"two"), "cannot be unpacked .*CRC"),
    ],
)
def test_unpack__refuses(tmp_path: Path, archive: bytes, said: str) -> None:
    (tmp_path / "birds.zip").write_bytes(archive)
    with pytest.raises(UserError, match=f"birds.zip: .*({said})") as raised:
        unpack(tmp_path / "birds.zip", tmp_path / "to")
    assert len(str(raised.value).splitlines()) == 1
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("pack", [zipped, tar])
def test_unpack__refuses_bombs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: Callable[[dict[str, bytes]], bytes]
) -> None:
    monkeypatch.setattr(unpacking, "SPARE", 1000)
    (tmp_path / "birds.zip").write_bytes(pack({"birds/1.jpg": bytes(9_000_000)}))
    with pytest.raises(UserError, match=r"birds.zip: holds more than 100 times its own size; it is not unpacked"):
        unpack(tmp_path / "birds.zip", tmp_path / "to")
    assert files_below(tmp_path / "to") == {}
