"""Downloads go on where they stopped, are compared with their checksums, and fail in one line."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from kd.common.errors import UserError
from kd.data import download as module
from kd.data.download import MIRROR, download
from kd.data.sources.base import Archive
from tests.data.archives import Host, hosting

CONTENT = np.random.default_rng(0).bytes(3_000_000)
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
MD5 = f"md5:{hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()}"


def archive_of(host: Host, checksum: str = SHA256, name: str = "birds.tgz") -> Archive:
    return Archive(f"{host.address}/{name}", checksum, len(CONTENT))


@pytest.mark.parametrize("checksum", [SHA256, MD5], ids=["sha256", "md5"])
def test_download__once(tmp_path: Path, checksum: str) -> None:
    with hosting({"birds.tgz": CONTENT}) as host:
        archive = archive_of(host, checksum)
        for _ in range(2):
            path = download(archive, tmp_path)
            assert path == tmp_path / "birds.tgz"
            assert path.read_bytes() == CONTENT
        assert len(host.requests) == 1
    assert [each.name for each in tmp_path.iterdir()] == ["birds.tgz"]


@pytest.mark.parametrize("ranges", [True, False])
def test_download__goes_on_where_it_stopped(tmp_path: Path, ranges: bool) -> None:
    with hosting({"birds.tgz": CONTENT}) as host:
        host.cut, host.ranges = 1_000_000, ranges
        with pytest.raises(UserError, match=r"birds.tgz: cannot be downloaded .*goes on where this one stopped"):
            download(archive_of(host), tmp_path)
        assert not (tmp_path / "birds.tgz").exists()
        host.cut = None
        assert download(archive_of(host), tmp_path).read_bytes() == CONTENT
        assert host.requests == [("/birds.tgz", 0), ("/birds.tgz", 1_000_000)]


def test_download__of_which_all_arrived_before_it_was_stopped(tmp_path: Path) -> None:
    (tmp_path / ".birds.tgz.download").write_bytes(CONTENT)
    with hosting({"birds.tgz": CONTENT}) as host:
        assert download(archive_of(host), tmp_path).read_bytes() == CONTENT


def test_download__of_another_file_leaves_nothing(tmp_path: Path) -> None:
    other = b"<html>please log in</html>"
    with hosting({"birds.tgz": other}) as host:
        expected = rf"birds.tgz: is another file than expected: 26 bytes with sha256:\w+, expected {SHA256}"
        with pytest.raises(UserError, match=expected) as raised:
            download(archive_of(host), tmp_path)
        assert len(str(raised.value).splitlines()) == 1
        assert list(tmp_path.iterdir()) == []
        host.files["birds.tgz"] = CONTENT
        assert download(archive_of(host), tmp_path).read_bytes() == CONTENT


def test_download__a_file_that_was_damaged_is_got_again(tmp_path: Path) -> None:
    (tmp_path / "birds.tgz").write_bytes(CONTENT[:-1])
    with hosting({"birds.tgz": CONTENT}) as host:
        assert download(archive_of(host), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(("status", "said"), [(404, "answers 404 Not Found"), (503, "answers 503")])
def test_download__refused(tmp_path: Path, status: int, said: str) -> None:
    with hosting({"birds.tgz": CONTENT}) as host:
        host.status = status
        with pytest.raises(UserError, match=rf"birds.tgz: cannot be downloaded \({said}.*source.root") as raised:
            download(archive_of(host), tmp_path)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/birds.tgz", "http://nowhere.invalid/birds.tgz", "birds.tgz"])
def test_download__without_a_host(tmp_path: Path, address: str) -> None:
    with pytest.raises(UserError, match=rf"{address}: cannot be downloaded \(.+\); start the same"):
        download(Archive(address, SHA256, 1), tmp_path)


def test_download__of_a_host_that_falls_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.2)
    with hosting({}) as host:
        host.silent = 0.5
        with pytest.raises(UserError, match=r"birds.tgz: cannot be downloaded \(timed out\)"):
            download(archive_of(host), tmp_path)


def test_download__from_a_mirror_or_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = Archive("http://nowhere.invalid/files/birds%20of%20prey.tgz?download=1", SHA256, len(CONTENT))
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror/birds of prey.tgz").write_bytes(CONTENT)
    monkeypatch.setenv(MIRROR, f"{(tmp_path / 'mirror').as_uri()}/")
    (tmp_path / "here").mkdir()
    assert download(archive, tmp_path / "here") == tmp_path / "here/birds of prey.tgz"
    assert (tmp_path / "here/birds of prey.tgz").read_bytes() == CONTENT
