"""A user's mistakes: one clear message, exit code not 0, and nothing that was built is touched."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from kd.cli.forecast import check_fit
from kd.common.errors import UserError
from kd.config.load import load_config
from kd.planning.plan import Plan
from tests.conftest import ROOT, make
from tests.workflow.running import snakemake

Tiny = dict[str, Any]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory where datasets and teachers are built."""
    directory = tmp_path_factory.mktemp("built")
    tiny = yaml.safe_load((ROOT / "tests/tiny.yaml").read_text()) | {"results": str(directory / "results")}
    plan = Plan(load_config(tiny))
    for job in [*plan.stage("prepare_dataset"), *plan.stage("train_teacher")]:
        make(job)
    return directory


def contents(directory: Path) -> dict[str, int]:
    """Modification times of all artefacts."""
    stages = [path for path in (directory / "results").iterdir() if path.name not in ("logs", ".jobs", "experiments")]
    files = [path for stage in stages for path in stage.rglob("*")]
    return {str(path): path.stat().st_mtime_ns for path in files if path.is_file()}


def images(root: Path, classes: int = 2) -> Path:
    generator = np.random.default_rng(0)
    for label in range(classes):
        for number in range(12):
            path = root / f"class{label}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(path)
    return root


def unknown_key(tiny: Tiny, _: Path) -> None:
    tiny["recipes"]["network"]["epoch"] = 3


def missing_folder(tiny: Tiny, root: Path) -> None:
    tiny["datasets"]["digits"]["source"] = {"type": "image_folder", "root": str(root / "nowhere")}


def empty_class(tiny: Tiny, root: Path) -> None:
    (images(root) / "empty").mkdir()
    tiny["datasets"]["digits"]["source"] = {"type": "image_folder", "root": str(root)}


def label_column_missing(tiny: Tiny, root: Path) -> None:
    (images(root) / "list.csv").write_text("path,kind\nclass0/0.png,a\n")
    tiny["datasets"]["digits"]["source"] = {"type": "csv_manifest", "csv": str(root / "list.csv")}


def row_without_file(tiny: Tiny, root: Path) -> None:
    (images(root) / "list.csv").write_text("path,label\nclass0/99.png,a\n")
    tiny["datasets"]["digits"]["source"] = {"type": "csv_manifest", "csv": str(root / "list.csv")}


def one_class(tiny: Tiny, root: Path) -> None:
    folder(tiny, images(root, classes=1))


def not_an_image(tiny: Tiny, root: Path) -> None:
    (images(root) / "class0" / "0.png").write_text("hello")
    folder(tiny, root)


def truncated(tiny: Tiny, root: Path) -> None:
    path = images(root) / "class1" / "1.png"
    path.write_bytes(path.read_bytes()[:700])
    folder(tiny, root)


def too_few_images(tiny: Tiny, root: Path) -> None:
    folder(tiny, images(root))
    tiny["datasets"]["digits"]["split"] = {"train": 1000}


def unknown_architecture(tiny: Tiny, _: Path) -> None:
    tiny["models"]["resnet"]["architecture"] = "resnet_of_dreams"


def checkpoint_missing(tiny: Tiny, root: Path) -> None:
    tiny["models"]["resnet"]["weights"] = {"path": str(root / "none.safetensors")}


def damaged_checkpoint(tiny: Tiny, root: Path) -> None:
    (root / "weights.safetensors").write_bytes(b"12345678" * 4)
    tiny["models"]["resnet"]["weights"] = {"path": str(root / "weights.safetensors")}


def wrong_argument(tiny: Tiny, _: Path) -> None:
    tiny["models"]["resnet"]["kwargs"] = {"depth": 3}


def diverging(tiny: Tiny, _: Path) -> None:
    tiny["recipes"]["network"] |= {"lr": 1e20, "optimizer": "sgd", "schedule": "constant"}


def folder(tiny: Tiny, root: Path) -> None:
    source = {"type": "image_folder", "root": str(root)}
    tiny["datasets"]["digits"] = {"source": source, "image_size": 32}


def unknown_reference(tiny: Tiny, _: Path) -> None:
    tiny["joint_teachers"]["joint_l1"]["teachers"] = ["digits_resnet", "letters_resnet"]


def softmax_on_multi_label(tiny: Tiny, _: Path) -> None:
    tiny["datasets"]["digits"] |= {"source": {"type": "scenes"}, "task": "multi_label"}


def unknown_split(tiny: Tiny, root: Path) -> None:
    (images(root) / "list.csv").write_text("path,label,split\nclass0/0.png,a,holdout\n")
    tiny["datasets"]["digits"]["source"] = {"type": "csv_manifest", "csv": str(root / "list.csv")}


BEFORE_ANY_JOB = [
    (unknown_reference, "joint_teachers.joint_l1.teachers: 'letters_resnet' is not the name of a known teacher"),
    (softmax_on_multi_label, "students.mlfd_l1.distiller.name: mlfd, but 'digits' is multi_label; expected one of"),
    (unknown_split, "line 2: split is 'holdout', expected one of ['train', 'val', 'test']"),
    (unknown_key, "recipes.network.epoch: unknown key; did you mean epochs?"),
    (missing_folder, "datasets.digits: source.root:"),
    (empty_class, "holds no images; remove it or fill it"),
    (label_column_missing, "has no column 'label'; its columns are ['path', 'kind']"),
    (row_without_file, "class0/99.png: no such image file"),
    (unknown_architecture, "models.resnet.architecture: 'resnet_of_dreams' is not the name of a known timm model"),
    (checkpoint_missing, "none.safetensors is not a file"),
]
IN_PREFLIGHT = [
    (one_class, "datasets.digits: expected at least two classes, found ['class0']"),
    (too_few_images, "split.train: 1000 asks for 1000 samples"),
    (wrong_argument, "timm cannot build test_resnet with {'depth': 3}"),
]
IN_A_JOB = [
    ("prepare_dataset", not_an_image, "class0/0.png: is not an image that can be decoded"),
    ("prepare_dataset", truncated, "class1/1.png: damaged image"),
    ("train_teacher", damaged_checkpoint, "weights.safetensors: not a safetensors file"),
    ("train_teacher", diverging, "training diverged; lower recipe lr"),
]


@pytest.mark.parametrize(("mistake", "message"), BEFORE_ANY_JOB, ids=lambda value: getattr(value, "__name__", ""))
def test_mistake__is_found_before_any_job(tmp_path: Path, tiny: Tiny, mistake: Any, message: str) -> None:
    mistake(tiny, tmp_path)
    with pytest.raises(UserError, match=re.escape(message)):
        Plan(load_config(tiny))


@pytest.mark.parametrize(("mistake", "message"), IN_PREFLIGHT, ids=lambda value: getattr(value, "__name__", ""))
def test_mistake__is_found_in_preflight(tmp_path: Path, tiny: Tiny, mistake: Any, message: str) -> None:
    """Before any job, too: it reads the labels and builds the networks."""
    mistake(tiny, tmp_path)
    with pytest.raises(UserError, match=re.escape(message)):
        list(check_fit(Plan(load_config(tiny)), set()))


@pytest.mark.parametrize(("mistake", "message"), BEFORE_ANY_JOB[-2:], ids=lambda value: getattr(value, "__name__", ""))
def test_mistake__is_the_last_line_that_snakemake_prints(
    built: Path, tmp_path: Path, tiny: Tiny, mistake: Any, message: str
) -> None:
    before = contents(built)
    mistake(tiny, tmp_path)
    done = snakemake(built, config=tiny)
    assert done.returncode != 0
    assert message in done.stdout.splitlines()[-1]
    assert "Traceback" not in done.stdout
    assert "rule " not in done.stdout  # no job was started
    assert contents(built) == before


def test_mistake__a_key_that_stands_twice_is_found_in_the_file_that_snakemake_reads(tmp_path: Path) -> None:
    (tmp_path / "twice.yaml").write_text((ROOT / "tests/tiny.yaml").read_text() + "\nteachers: {}\n")
    done = snakemake(tmp_path, "-n", "--configfile", str(tmp_path / "twice.yaml"), config={})
    assert done.returncode != 0
    assert "twice.yaml: teachers: this key stands twice, in lines " in done.stdout
    assert "Traceback" not in done.stdout


UNKNOWN = {
    "name": "results/train_teacher/nobody-seed0/{key}/manifest.json",
    "key": "results/train_teacher/digits_resnet-seed0/0123456789abcdef/manifest.json",
    "stage that the config has not": "results/fetch_weights/resnet18/{key}/manifest.json",
}


@pytest.mark.parametrize("target", UNKNOWN.values(), ids=UNKNOWN)
def test_target__an_artefact_that_the_config_has_not_is_one_line(tmp_path: Path, tiny: Tiny, target: str) -> None:
    (teacher, _) = Plan(load_config(tiny)).stage("train_teacher")
    target = target.format(key=teacher.key)
    done = snakemake(tmp_path, "-n", target, config=tiny)
    assert done.returncode != 0
    assert f"No rule to produce {target}" in done.stdout.splitlines()[-1]
    assert "Traceback" not in done.stdout


@pytest.fixture(scope="module")
def failed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What one run prints in which all mistakes are met, each by a teacher of its own or by its dataset."""
    tiny: Tiny = yaml.safe_load((ROOT / "tests/tiny.yaml").read_text())
    wanted = copy.deepcopy(tiny) | {"joint_teachers": {}, "students": {}, "baselines": {}, "teachers": {}}
    for _, mistake, _ in IN_A_JOB:
        config, name = copy.deepcopy(tiny), mistake.__name__
        mistake(config, tmp_path_factory.mktemp(name))
        of_teacher = {
            "dataset": ("datasets", "digits"),
            "model": ("models", "resnet"),
            "recipe": ("recipes", "network"),
        }
        wanted["teachers"][name] = {}
        for field, (section, usual) in of_teacher.items():
            changed = config[section][usual] != tiny[section][usual]
            wanted["teachers"][name][field] = name if changed else usual
            if changed:
                wanted[section][name] = config[section][usual]
    before = contents(built)
    done = snakemake(built, "teachers", config=wanted)
    assert done.returncode != 0
    after = contents(built)
    assert {name: after.get(name) for name in before} == before
    return done.stdout


@pytest.mark.parametrize(("stage", "mistake", "message"), IN_A_JOB, ids=lambda value: getattr(value, "__name__", ""))
def test_mistake__of_every_job_that_failed_is_one_of_the_last_lines(
    failed: str, stage: str, mistake: Any, message: str
) -> None:
    last = failed.splitlines()[-len(IN_A_JOB) :]
    (line,) = [each for each in last if each.startswith(f"{stage}/{mistake.__name__}")]
    assert message in line
    log = re.search(r"; log: (\S+); of all attempts: (results/\S+/\.job\.log)$", line)
    assert log
    assert f"Logfile {log[1]}:" in failed  # shown further above
    assert "Traceback" not in failed
