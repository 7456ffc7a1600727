"""What a change rebuilds: a table of changes, each tried against one finished run; some by Snakemake itself."""

from __future__ import annotations

import ast
import copy
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from kd.artefacts import code as digest
from kd.cli.publish import key_file
from kd.config.load import load_config
from kd.planning.plan import Plan
from tests.conftest import ROOT, make
from tests.workflow.running import jobs, snakemake

Raw = dict[str, Any]

CONFIG = """
seeds: [0]
datasets:
  digits: {source: {type: digits}, image_size: 32, split: {train: 30, val: 20, test: 20}}
  folder: {source: {type: image_folder, root: PICTURES}, image_size: 32}
models:
  resnet: {architecture: test_resnet, latent_dim: 16}
  byobnet: {architecture: test_byobnet, latent_dim: 16}
augmentations:
  shake: {rotation: 10}
recipes:
  network: {lr: 0.003, epochs: 1, batch_size: 16, augmentation: shake}
  fusion: {lr: 0.001, epochs: 1, batch_size: 16, augmentation: shake}
  student: {lr: 0.003, weight_decay: 0.05, epochs: 1, batch_size: 16, augmentation: shake}
teachers:
  digits_resnet: {dataset: digits, model: resnet, recipe: network}
  folder_byobnet: {dataset: folder, model: byobnet, recipe: network}
  digits_byobnet: {dataset: digits, model: byobnet, recipe: network}
joint_teachers:
  fused: {level: L2, width: 8, views: 2, recipe: fusion}
students:
  mlfd: {teacher: fused, recipe: student}
baselines:
  joint_baseline: {model: resnet, recipe: network}
"""


def forget() -> None:
    """What was read of the code."""
    for cached in (digest.reachable, digest._parse, digest._references, digest._path, digest._text, digest._digest):
        cached.cache_clear()


class Finished:
    """A finished run that changes are tried on.

    Attributes:
        directory: where Snakemake runs, with the results.
        images: folder of the image_folder dataset.
        checkout: a copy of the code, free to be edited.
        config: as it was run.
    """

    def __init__(self, root: Path) -> None:
        self.directory, self.images, self.checkout = root / "run", root / "images", root / "checkout"
        self.directory.mkdir()
        draw_images(self.images)
        self.checkout.mkdir()
        shutil.copy(ROOT / "Snakefile", self.checkout)
        for folder in ("workflow", "kd", "envs"):
            shutil.copytree(ROOT / folder, self.checkout / folder, ignore=shutil.ignore_patterns("__pycache__"))
        text = CONFIG.replace("PICTURES", str(self.images))
        self.config: Raw = yaml.safe_load(text) | {"results": str(self.directory / "results")}

    def run(self, *arguments: str, target: str = "all", config: Raw | None = None) -> dict[str, int]:
        """How many jobs of which rule Snakemake starts."""
        done = snakemake(self.directory, target, *arguments, config=config or self.config, checkout=self.checkout)
        assert done.returncode == 0, done.stdout
        return jobs(done.stdout)

    def planned(self, config: Raw | None = None) -> dict[str, int]:
        """How many jobs of which rule Snakemake would start, as with the workstation's profile."""
        return self.run("-n", "--rerun-triggers", "mtime", config=config)

    def missing(self, config: Raw | None = None) -> dict[str, int]:
        """What `planned` should be: how many files there are not, of those that each rule declares."""
        forget()
        plan = Plan(load_config(config or self.config))
        counts = Counter(job.stage for job in plan.jobs.values() if not job.manifest.is_file())
        for what in ("tables", "figures"):
            if not key_file(plan, what).is_file():
                counts[f"publish_{what}"] = 1
        return dict(counts)


def draw_images(root: Path) -> None:
    generator = np.random.default_rng(0)
    for label in ("dark", "light"):
        (root / label).mkdir(parents=True)
        for number in range(12):
            pixels = generator.integers(0, 256, (20, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / label / f"{number}.png")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    """Made in this process, where torch is imported once; then remembered by Snakemake as if it had been its work."""
    run = Finished(tmp_path_factory.mktemp("changes"))
    for job in Plan(load_config(run.config)).jobs.values():
        make(job)
    assert set(run.run()) == {"publish_tables", "publish_figures"}
    run.run("--touch", "--forceall")  # Snakemake now remembers all jobs
    assert run.planned() == {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digest, "PACKAGE", run.checkout / "kd")  # whose code may be edited
        assert run.missing() == {}
        yield run


# Changes of the config


def student_lr(config: Raw) -> None:
    config["recipes"]["student"]["lr"] = 0.01


def swapped_values(config: Raw) -> None:
    config["recipes"]["student"].update(lr=0.05, weight_decay=0.003)


def joint_width(config: Raw) -> None:
    config["joint_teachers"]["fused"]["width"] = 4


def joint_scope(config: Raw) -> None:
    config["joint_teachers"]["fused"]["scope"] = "shared"


def teacher_epochs(config: Raw) -> None:
    config["recipes"]["longer"] = config["recipes"]["network"] | {"epochs": 2}
    config["teachers"]["digits_resnet"]["recipe"] = "longer"


def teacher_architecture(config: Raw) -> None:
    config["models"]["other"] = {"architecture": "test_efficientnet", "latent_dim": 16}
    config["teachers"]["digits_resnet"]["model"] = "other"


def image_size(config: Raw) -> None:
    config["datasets"]["digits"]["image_size"] = 48


def split_seed(config: Raw) -> None:
    config["datasets"]["folder"]["split"] = {"seed": 1}


def new_dataset(config: Raw) -> None:
    config["datasets"]["more"] = config["datasets"]["digits"] | {"image_size": 40}
    config["teachers"]["more_resnet"] = {"dataset": "more", "model": "resnet", "recipe": "network"}


def new_teacher(config: Raw) -> None:
    config["teachers"]["folder_resnet"] = {"dataset": "folder", "model": "resnet", "recipe": "network"}


def removed_teacher(config: Raw) -> None:
    del config["teachers"]["digits_byobnet"]


def more_views(config: Raw) -> None:
    config["joint_teachers"]["fused"]["views"] = 3


def new_seed(config: Raw) -> None:
    config["seeds"].append(1)


def another_level(config: Raw) -> None:
    config["joint_teachers"]["vectors"] = {"level": "L1", "views": 2, "recipe": "fusion"}


def cache_dtype(config: Raw) -> None:
    config["caches"] = {"small": {"dtype": "int8"}}
    config["joint_teachers"]["fused"]["cache"] = "small"


def targets_dtype(config: Raw) -> None:
    """Only of the students' targets: the joint teachers keep what they were trained on."""
    config["caches"] = {"small": {"dtype": "int8"}}
    config["students"]["mlfd"]["cache"] = "small"


def live_students(config: Raw) -> None:
    config["students"]["mlfd"]["views"] = "live"


def memory_budget(config: Raw) -> None:
    config["memory"] = {"ram_gib": 0.5}


def report_title(config: Raw) -> None:
    config["reports"] = {"title": "Another"}


def another_experiment(config: Raw) -> None:
    config["experiment"] = "another"


def unused_momentum(config: Raw) -> None:
    config["recipes"]["network"]["momentum"] = 0.5


# Rules by what they make; tables and figures follow whatever is measured.
DATA, TEACHER, CACHE = "prepare_dataset", "train_teacher", "cache_embeddings"
JOINT, TARGETS, STUDENT = "train_joint_teacher", "cache_targets", "distill_student"
BASELINE = "train_baseline"
CONFIG_PAGE = {"publish_tables": 1}  # the config lies beside the tables
FIGURES = {"figure": 5, "publish_figures": 1}
ONE_FIGURE = {"figure": 1, "publish_figures": 1} | CONFIG_PAGE  # the index, beside the tables, names it
ONE_EACH = {"table": 1, "figure": 1, "publish_tables": 1, "publish_figures": 1}
ALL = {"table": 7} | FIGURES | CONFIG_PAGE
FUSED = {JOINT: 2, TARGETS: 2, STUDENT: 2}

CONFIG_CHANGES: list[tuple[Callable[[Raw], None], dict[str, int]]] = [
    (student_lr, {STUDENT: 2} | ALL),
    (swapped_values, {STUDENT: 2} | ALL),
    (joint_width, {JOINT: 2, TARGETS: 2, STUDENT: 2} | ALL),
    (joint_scope, {JOINT: 1, TARGETS: 2, STUDENT: 2} | ALL),
    (teacher_epochs, {TEACHER: 1, CACHE: 2, JOINT: 2, TARGETS: 2, STUDENT: 2} | ALL),
    (teacher_architecture, {TEACHER: 1, CACHE: 2, JOINT: 2, TARGETS: 2, STUDENT: 2} | ALL),
    (image_size, {DATA: 1, TEACHER: 2, CACHE: 5, JOINT: 2, TARGETS: 2, STUDENT: 2, BASELINE: 1} | ALL),
    (split_seed, {DATA: 1, TEACHER: 1, CACHE: 4, JOINT: 2, TARGETS: 2, STUDENT: 2, BASELINE: 1} | ALL),
    (new_dataset, {DATA: 1, TEACHER: 1, CACHE: 6, JOINT: 3, TARGETS: 3, STUDENT: 3, BASELINE: 1} | ALL),
    (new_teacher, {TEACHER: 1, CACHE: 2, JOINT: 2, TARGETS: 2, STUDENT: 2} | ALL),
    (removed_teacher, {JOINT: 2, TARGETS: 2, STUDENT: 2} | ALL),
    (more_views, {CACHE: 6, JOINT: 2, TARGETS: 2, STUDENT: 2} | ALL),
    (new_seed, {TEACHER: 3, CACHE: 6, JOINT: 2, TARGETS: 2, STUDENT: 2, BASELINE: 1} | ALL),
    (
        another_level,
        {CACHE: 6, JOINT: 2} | ALL | {"table": 6, "figure": 4},
    ),  # agreement and calibration are of students
    (cache_dtype, {CACHE: 6, JOINT: 2, TARGETS: 2, STUDENT: 2} | ALL),
    (targets_dtype, {CACHE: 6, TARGETS: 2, STUDENT: 2} | ALL),
    (live_students, {STUDENT: 2} | ALL),
    (memory_budget, CONFIG_PAGE),
    (report_title, FIGURES | CONFIG_PAGE),
    (another_experiment, ALL),
    (unused_momentum, CONFIG_PAGE),
]
BY_SNAKEMAKE = (student_lr, new_dataset, removed_teacher, more_views, memory_budget)

# Changes of the code: file, and what becomes of its text


def replaced(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new)

    return change


def reformatted(text: str) -> str:
    return ast.unparse(ast.parse(text))


def commented(text: str) -> str:
    return text.replace('"""', '"""Said otherwise: ', 1) + "\n# A comment.\n"


def coded(text: str) -> str:
    return text + "\nADDED = 1\n"


CODE_CHANGES: list[tuple[str, Callable[[str], str], dict[str, int]]] = [
    ("kd/distillers/mlfd.py", coded, {STUDENT: 2} | ALL),
    ("kd/models/joint.py", replaced("nn.BatchNorm2d(width)", "nn.BatchNorm2d(1 * width)"), FUSED | ALL),
    ("kd/data/draws.py", replaced("BLOCK = ", "BLOCK = 1 * "), {TEACHER: 3, CACHE: 6, BASELINE: 1} | FUSED | ALL),
    ("kd/embeddings/encoding.py", replaced("INT8_RANGE = 127", "INT8_RANGE = 126"), {CACHE: 6} | FUSED | ALL),
    ("kd/reporting/statistics.py", replaced("if deviation == 0:", "if deviation <= 0:"), ONE_EACH),
    ("kd/reporting/figures/cost.py", coded, ONE_FIGURE),
    ("kd/reporting/tables/cost.py", replaced('"bytes_per_view"', '"bytes_a_view"'), ONE_EACH),
    ("kd/jobs/progress.py", replaced("LINE_EVERY_SECONDS = 5.0", "LINE_EVERY_SECONDS = 9.0"), {}),
    ("kd/distillers/mlfd.py", commented, {}),
    ("kd/distillers/losses.py", coded, {}),
    ("kd/training/loop.py", reformatted, {}),
    ("kd/config/schema.py", coded, {}),
    ("workflow/rules/artefact.smk", replaced("python -m", "python -u -m"), {}),
]


@pytest.mark.parametrize(("change", "expected"), CONFIG_CHANGES, ids=lambda value: getattr(value, "__name__", ""))
def test_change__of_the_config(finished: Finished, change: Callable[[Raw], None], expected: dict[str, int]) -> None:
    config = copy.deepcopy(finished.config)
    change(config)
    assert finished.missing(config) == expected
    if change in BY_SNAKEMAKE:
        assert finished.planned(config) == expected


@pytest.mark.parametrize(("file", "change", "expected"), CODE_CHANGES)
def test_change__of_the_code(
    finished: Finished, file: str, change: Callable[[str], str], expected: dict[str, int]
) -> None:
    with edited(finished.checkout / file, change):
        assert finished.missing() == expected
        if expected == ONE_FIGURE or file.endswith(".smk"):
            assert finished.planned() == expected


@contextmanager
def edited(path: Path, change: Callable[[str], str]) -> Iterator[None]:
    text = path.read_text()
    path.write_text(change(text))
    try:
        yield
    finally:
        path.write_text(text)
        forget()


def test_change__of_one_image(finished: Finished) -> None:
    path = finished.images / "dark" / "3.png"
    content, status = path.read_bytes(), path.stat()
    Image.new("RGB", (20, 20), "red").save(path)
    expected = {DATA: 1, TEACHER: 1, CACHE: 4, JOINT: 2, TARGETS: 2, STUDENT: 2, BASELINE: 1} | ALL
    assert finished.missing() == expected
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert finished.missing() == {}


def test_change__made_and_undone(finished: Finished) -> None:
    """For good: only the students are made, new ones beside the old; and nothing is made for a rule's text."""
    config = copy.deepcopy(finished.config)
    student_lr(config)
    before = [job.manifest.read_text() for job in Plan(load_config(finished.config)).jobs.values()]
    students = Plan(load_config(config)).stage(STUDENT)
    assert finished.run(target="students", config=config) == {"students": 1, STUDENT: 2}
    assert all(job.manifest.is_file() for job in students)
    again = finished.run("--forcerun", STUDENT, target="students", config=config)
    assert again == {"students": 1, STUDENT: 2}  # they end at once
    for job in students:
        log = (job.directory / ".job.log").read_text()
        assert [log.count(said) for said in (": building ", ": done in ", ": already built")] == [1, 1, 1]
    assert finished.planned() == {}
    assert [job.manifest.read_text() for job in Plan(load_config(finished.config)).jobs.values()] == before
