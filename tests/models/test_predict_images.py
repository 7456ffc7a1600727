"""`python -m kd predict`: which images it takes, what it shows of those that it cannot read, and its exit status."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kd.__main__ import parser
from kd.data.modalities.image import Samples
from kd.data.packed import DatasetInfo
from kd.models.prediction import predict_files
from kd.models.spec import ModelSpec
from kd.models.weights import export_student, new_network, save_network
from tests.conftest import ROOT

GROUND = (10, 200, 30)


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a dataset whose transparent images were laid on green."""
    directory = tmp_path_factory.mktemp("student")
    info = DatasetInfo("toy", ("x", "y", "z"), Samples(image_size=(32, 32), ground=GROUND), (0.5,) * 3, (0.1,) * 3, {})
    torch.manual_seed(0)
    network = new_network(ModelSpec(architecture="test_resnet"), [info])
    save_network(network, directory)
    export_student(network, info, directory)
    return directory


def test_predict_images__lays_transparent_images_on_the_ground_of_the_dataset(student: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 4), dtype=np.uint8)
    pixels[..., 3] = 255 * (pixels[..., 3] > 99)
    laid = np.where(pixels[..., 3:] == 0, GROUND, pixels[..., :3]).astype(np.uint8)
    palette = Image.fromarray(np.arange(1024, dtype=np.uint8).reshape(32, 32))
    palette.putpalette(list(range(256)) * 3)
    of_palette = np.asarray(palette.convert("RGB")).copy()
    of_palette[np.asarray(palette) == 7] = GROUND
    Image.fromarray(pixels).save(tmp_path / "a1.png")
    Image.fromarray(laid).save(tmp_path / "a2.png")
    palette.save(tmp_path / "b1.png", transparency=7)
    Image.fromarray(of_palette).save(tmp_path / "b2.png")
    found = [found for _, found in predict_files(student, tmp_path, 3)]
    assert found[0] == found[1]
    assert found[2] == found[3] != found[0]


def test_predict__names_what_it_cannot_read_goes_on_and_fails_in_the_end(
    student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sound = Image.new("RGB", (32, 32))
    for name in ("a.png", "c.jfif", "caf\udce9.png", ".hidden.png"):
        sound.save(tmp_path / name)
    (tmp_path / "b.png").write_text("no image")
    (tmp_path / "d.png").symlink_to("nowhere")
    options = parser().parse_args(["predict", str(student), str(tmp_path)])
    lines = options.run(options)
    shown = [next(lines).split("\t")[0] for _ in range(3)]
    with pytest.raises(SystemExit, match="1"):
        next(lines)
    assert shown == [f"{tmp_path}/{name}" for name in ("a.png", "c.jfif", r"caf\xe9.png")]
    assert capsys.readouterr().err.splitlines() == [
        f"error: {tmp_path}/b.png: is not an image that can be decoded",
        f"error: {tmp_path}/d.png: cannot be read (No such file or directory)",
    ]


def test_commands__are_quiet_where_nobody_reads_on() -> None:
    """`schema` is the quickest command; like all others, `main` prints what it says."""
    command = [sys.executable, "-m", "kd", "schema"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141
