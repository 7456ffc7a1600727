"""Each official dataset that can be downloaded, from archives as they are published to a packed dataset."""

from __future__ import annotations

import hashlib
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kd.common.errors import UserError
from kd.config.load import load_config
from kd.data.download import MIRROR
from kd.data.packed import read_info
from kd.data.sources.base import Archive, archives_of, load_source
from kd.planning.plan import Plan
from tests.conftest import make
from tests.data.official_layouts import MAKERS

HOLDS: dict[str, dict[str, list[str]]] = {
    "cifar100": {"cifar-100-python.tar.gz": ["cifar-100-python"]},
    "tiny_imagenet": {"tiny-imagenet-200.zip": ["tiny-imagenet-200"]},
    "caltech101": {"caltech-101.zip": ["caltech-101"]},
    "flowers102": {"102flowers.tgz": ["jpg"], "imagelabels.mat": [], "setid.mat": []},
    "cub200": {"CUB_200_2011.tgz": ["CUB_200_2011", "attributes.txt"]},
    "oxford_pets": {"images.tar.gz": ["images"], "annotations.tar.gz": ["annotations"]},
}
"""What each archive holds, by dataset; files that hold nothing are no archives."""


def publish(name: str, folder: Path, mirror: Path) -> None:
    """Pack a dataset of the tests as the real one is published."""
    if name == "caltech101":  # a tar file in a zip file
        with tarfile.open(folder / "caltech-101/101_ObjectCategories.tar.gz", "w:gz") as inner:
            inner.add(folder / "caltech-101/101_ObjectCategories", "101_ObjectCategories")
    for file, parts in HOLDS[name].items():
        if not parts:
            (mirror / file).write_bytes((folder / file).read_bytes())
        elif file.endswith(".zip"):
            with zipfile.ZipFile(mirror / file, "w") as archive:
                for path in sorted(path for part in parts for path in (folder / part).rglob("*") if path.is_file()):
                    unpacked = name == "caltech101" and "101_ObjectCategories" in path.relative_to(folder).parts
                    if not unpacked:
                        archive.write(path, path.relative_to(folder))
        else:
            with tarfile.open(mirror / file, "w:gz") as archive_file:
                for part in parts:
                    archive_file.add(folder / part, part)


def described(archive: Archive, mirror: Path) -> Archive:
    data = (mirror / archive.file_name).read_bytes()
    return replace(archive, checksum=f"sha256:{hashlib.sha256(data).hexdigest()}", bytes=len(data))


def plan_of_download(name: str, results: Path) -> Plan:
    raw: dict[str, Any] = {
        "results": str(results),
        "datasets": {"d": {"source": {"type": name}, "image_size": 8, "split": {"val": 1, "test": 2}}},
        "models": {"m": {"architecture": "test_resnet"}},
        "recipes": {"r": {"lr": 0.1, "epochs": 1, "batch_size": 2}},
        "teachers": {"t": {"dataset": "d", "model": "m", "recipe": "r"}},
    }
    return Plan(load_config(raw))


def test_downloads__are_of_all_official_datasets_but_one() -> None:
    assert {name for name in MAKERS if archives_of(name)} == set(HOLDS)
    for name, files in HOLDS.items():
        assert {each.file_name for each in archives_of(name)} == set(files)
        assert all(each.address.startswith("http") for each in archives_of(name))


@pytest.mark.parametrize("name", HOLDS)
def test_download__is_packed_as_the_folder_is(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror, folder = tmp_path / "mirror", tmp_path / "published"
    mirror.mkdir()
    MAKERS[name](folder)
    publish(name, folder, mirror)
    monkeypatch.setenv(MIRROR, mirror.as_uri())
    archives = tuple(described(each, mirror) for each in archives_of(name))
    monkeypatch.setattr(load_source(name), "ARCHIVES", archives)
    plan = plan_of_download(name, tmp_path / "results")
    fetch, prepare = (plan.stage(stage)[0] for stage in ("fetch_dataset", "prepare_dataset"))
    make(fetch)
    make(prepare)
    source = load_source(name)
    listing = source.read(source.Options.model_validate({"root": folder}))
    info = read_info(prepare.directory)
    assert set(info.classes) == {label for sample in listing.samples for label in sample.labels}
    assert not (prepare.directory / ".unpacked").exists()


@pytest.mark.parametrize("name", HOLDS)
def test_download__of_another_file_is_one_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in HOLDS[name]:
        (tmp_path / file).write_bytes(b"<html>moved</html>")
    monkeypatch.setenv(MIRROR, tmp_path.as_uri())
    with pytest.raises(UserError, match=r"is another file than expected: 18 bytes with (md5|sha256):") as raised:
        make(plan_of_download(name, tmp_path / "results").stage("fetch_dataset")[0])
    assert len(str(raised.value).splitlines()) == 1
