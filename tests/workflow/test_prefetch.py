"""A dataset that is downloaded: by `prefetch` alone, resumed, and never again."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.data.archives import hosting, tar, zipped
from tests.workflow.running import jobs, snakemake

SOURCE = '''"""Stripes, published as an archive of images and a list beside it."""

from kd.data.sources.base import Archive
from kd.data.sources.image_folder import Options as Folder, fingerprint, read as read_folder

ARCHIVES = ARCHIVES_HERE


class Options(Folder):
    """Where they are."""

    root: str | None = None
    """Their folder; null: downloaded."""


def read(options):
    """Class folders in `images`."""
    from pathlib import Path

    assert (Path(options.root) / "about" / "list.txt").read_text() == "stripes"
    return read_folder(Folder(root=Path(options.root) / "stripes" / "images"))
'''


def stripes() -> bytes:
    """A zip with a tar of class folders in it, and what macOS adds."""
    content = {}
    for label, axis in (("rows", 0), ("columns", 1)):
        for number in range(30):
            pixels = np.zeros((16, 16), np.uint8)
            pixels[number % 4 :: 4] = 150 + number
            buffer = io.BytesIO()
            Image.fromarray(pixels if axis == 0 else pixels.T.copy()).save(buffer, "png")
            content[f"images/{label}/{number}.png"] = buffer.getvalue()
    return zipped({"stripes/images.tar.gz": tar(content), "__MACOSX/stripes/._images.tar.gz": b"nothing"})


def test_prefetch__downloads_once_and_packs_and_all_else_is_done_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, about = stripes(), b"stripes"
    modules = tmp_path / "modules"
    modules.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(modules))
    config: dict[str, Any] = {
        "experiment": "stripes",
        "datasets": {
            "stripes": {"source": {"type": "theirs.stripes"}, "image_size": 16, "split": {"val": 10, "test": 20}}
        },
        "models": {"net": {"architecture": "test_resnet"}},
        "recipes": {"r": {"lr": 0.01, "epochs": 1, "batch_size": 10}},
        "teachers": {"t": {"dataset": "stripes", "model": "net", "recipe": "r"}},
    }
    (modules / "theirs").mkdir()
    with hosting({"stripes.zip": archive, "list.txt": about}) as host:
        described = [
            f"Archive('{host.address}/{name}', 'sha256:{hashlib.sha256(data).hexdigest()}', {len(data)}, '{folder}')"
            for name, data, folder in (("stripes.zip", archive, "."), ("list.txt", about, "about"))
        ]
        source = SOURCE.replace("ARCHIVES_HERE", f"({', '.join(described)})")
        (modules / "theirs/stripes.py").write_text(source)

        refused = snakemake(tmp_path, "tables", config=config)
        assert refused.returncode == 1
        assert "datasets.stripes: is not here yet; the target `prefetch` downloads" in refused.stdout
        assert f"get {host.address}/stripes.zip, {host.address}/list.txt, unpack" in refused.stdout
        assert "Traceback" not in refused.stdout
        assert host.requests == []

        host.cut = 1000
        cut = snakemake(tmp_path, "prefetch")
        assert cut.returncode == 1
        assert f"fetch_dataset/theirs_stripes: {host.address}/stripes.zip: cannot be downloaded" in cut.stdout
        host.cut = None
        fetched = snakemake(tmp_path, "prefetch")
        assert fetched.returncode == 0, fetched.stdout
        assert jobs(fetched.stdout).keys() >= {"fetch_dataset", "prepare_dataset"}
        assert host.requests == [("/stripes.zip", 0), ("/stripes.zip", 1000), ("/list.txt", 0)]
    (directory,) = (tmp_path / "results/prepare_dataset/stripes").iterdir()
    assert {"images.zarr", "samples.csv"} < {path.name for path in directory.iterdir()}
    assert not (directory / ".unpacked").exists()
    listed = pd.read_csv(directory / "samples.csv")
    assert len(listed) == 60
    assert set(listed["label"]) == {"rows", "columns"}

    # With another address, where nobody answers, the files are taken over, and all that was made of them stays.
    (modules / "theirs/stripes.py").write_text(source.replace(host.address, "http://127.0.0.1:9"))
    made = snakemake(tmp_path, "tables")
    assert made.returncode == 0, made.stdout
    assert "prepare_dataset" not in jobs(made.stdout)
