"""A method, source, modality, backbone, figure: each is one new file, in its folder or in a module of others."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.conftest import ROOT
from tests.workflow.running import snakemake
from tests.workflow.toy_clips import MODALITY as TOY

METHOD = '''"""The label loss twice, with logits of a teacher that nobody compares."""

from typing import Literal

from kd.distillers.base import Distiller, Required


class Method(Distiller):
    """No options but how often."""

    name: Literal["NAME"] = "NAME"
    times: float = 2
    """How often."""

    def required(self, level):
        """Logits."""
        return Required(logits=True)

    def loss(self, student, teacher, batch, auxiliary):
        """The label loss."""
        from kd.distillers.losses import label_loss

        assert teacher["logits"].shape == student["logits"].shape
        return self.times * label_loss(student, batch.labels)
'''
SOURCE = '''"""Squares, dark or light."""

from functools import partial

from kd.common.options import BaseOptions
from kd.data.sources.base import Listing, Sample

TASKS = ("single_label",)
CHANNELS = 1


class Options(BaseOptions):
    """How many."""

    count: int = 40
    """Of each class."""


def fingerprint(options):
    """Nothing that could change."""
    return {}


def square(value):
    """One image."""
    from PIL import Image

    return Image.new("L", (8, 8), value)


def read(options):
    """All of them."""
    return Listing(
        [
            Sample(f"{label}{number}", (label,), partial(square, first + number))
            for label, first in (("dark", 0), ("light", 150))
            for number in range(options.count)
        ]
    )
'''
FIGURE = '''"""How many networks were measured."""

from typing import ClassVar

from kd.reporting.base import Figure


class Report(Figure):
    """One bar."""

    CAPTION: ClassVar[str] = "As many as there are."

    def draw(self, run):
        """The figure."""
        import matplotlib.pyplot as plt

        from kd.reporting.drawing import colour

        figure, axis = plt.subplots()
        axis.bar(["networks"], [len(run.rows)], color=colour("student"))
        return figure
'''


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the code with five more files, and two modules of somebody else's beside it."""
    checkout = tmp_path_factory.mktemp("extended")
    shutil.copy(ROOT / "Snakefile", checkout)
    for folder in ("workflow", "kd", "envs"):
        shutil.copytree(ROOT / folder, checkout / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (checkout / "kd/distillers/twice.py").write_text(METHOD.replace("NAME", "twice"))
    clips = (ROOT / "tests/workflow/toy_clips.py").read_text()
    assert TOY in clips
    for file in ("data/sources/moving", "data/modalities/clips", "models/backbones/frames"):
        (checkout / f"kd/{file}.py").write_text(clips.replace(TOY, "clips"))
    (checkout / "kd/reporting/figures/counts.py").write_text(FIGURE)
    (checkout / "theirs").mkdir()
    (checkout / "theirs/thrice.py").write_text(METHOD.replace("NAME", "theirs.thrice").replace("= 2", "= 3"))
    (checkout / "theirs/boxes.py").write_text(SOURCE)
    return checkout


def test_extending__by_files_of_ours_and_modules_of_others(
    extended: Path, tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny["datasets"] = {
        "clips": {"source": {"type": "moving", "count": 20}, "frames": 3, "split": {"val": 20, "test": 20}},
        "boxes": {"source": {"type": "theirs.boxes"}, "image_size": 32, "split": {"val": 20, "test": 20}},
    }
    tiny["models"] = {"frames": {"backbone": "frames", "architecture": "frames"}, "resnet": tiny["models"]["resnet"]}
    tiny["teachers"] = {
        "clips_frames": {"dataset": "clips", "model": "frames", "recipe": "network"},
        "boxes_resnet": {"dataset": "boxes", "model": "resnet", "recipe": "network"},
    }
    tiny["joint_teachers"], tiny["baselines"] = {}, {}
    tiny["students"] = {
        name: {"teacher": "individual", "targets": [target], "distiller": {"name": method}, "recipe": "network"}
        for name, target, method in (("own", "clips", "twice"), ("others", "boxes", "theirs.thrice"))
    }
    monkeypatch.setenv("PYTHONPATH", str(extended))
    done = snakemake(tmp_path, "figures", config=tiny, checkout=extended, share=False)
    assert done.returncode == 0, done.stdout
    assert "clips: clips that were cut: 80" in done.stdout
    folder = tmp_path / "results/experiments/tiny"
    rows = pd.read_csv(folder / "tables/summary.csv")
    assert set(rows["method"]) == {"individual", "twice", "theirs.thrice"}
    assert "<svg" in (folder / "figures/counts.svg").read_text()
    assert (folder / "captions/figure-counts.rst").read_text() == "As many as there are."


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"distiller": {"name": "theirs.none"}}, "theirs.none: cannot be imported: ModuleNotFoundError"),
        ({"distiller": {"name": "theirs.broken"}}, "theirs.broken: cannot be imported: ZeroDivisionError"),
    ],
)
def test_extending__a_module_that_cannot_be_imported_is_one_line(
    extended: Path, tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, section: Any, said: str
) -> None:
    (extended / "theirs/broken.py").write_text("1 / 0\n")
    tiny["students"] = {"own": {"teacher": "individual", "recipe": "network"} | section}
    monkeypatch.setenv("PYTHONPATH", str(extended))
    done = snakemake(tmp_path, "-n", config=tiny, checkout=extended, share=False)
    assert done.returncode == 1
    assert said in done.stdout
    assert "Traceback" not in done.stdout
