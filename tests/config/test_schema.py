"""Configs: what is accepted, and what is said of mistakes."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from kd.common.errors import UserError
from kd.config.load import load_config, read_config
from kd.config.schema import Config
from kd.planning.plan import Plan
from tests.conftest import ROOT

Tiny = dict[str, Any]


WHOLE = [path for path in sorted(ROOT.glob("config/**/*.yaml")) if path.parent.name != "sets"]


@pytest.mark.parametrize("path", WHOLE, ids=lambda path: path.name)
def test_load_config__shipped_configs_are_valid(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are the checkpoints that they name."""
    raw = read_config(path)
    monkeypatch.chdir(tmp_path)
    for model in raw["models"].values():
        if isinstance(model.get("weights"), dict):
            Path(model["weights"]["path"]).parent.mkdir(parents=True, exist_ok=True)
            Path(model["weights"]["path"]).touch()
    config = load_config(raw)
    assert load_config(json.loads(config.model_dump_json())) == config  # as the rules hand it on


def test_schema__is_current() -> None:
    stored = json.loads((ROOT / "workflow/schemas/config.schema.json").read_text())
    assert stored == Config.model_json_schema(), "run: python -m kd schema > workflow/schemas/config.schema.json"


def test_reference__explains_every_key() -> None:
    text = "".join((ROOT / "config" / name).read_text() for name in ("README.md", "sources.md"))
    schema = Config.model_json_schema()
    models = [schema, *schema["$defs"].values()]
    keys = {key for model in models for key in model.get("properties", {})}
    assert {key for key in keys if f"`{key}`" not in text} == set()


MISTAKES: list[tuple[str, Any, str]] = [
    ("student", {}, r"student: unknown key; did you mean students\? allowed here: experiment, results"),
    ("recipes.network.learning_rate", 0.1, "recipes.network.learning_rate: unknown key; .*allowed here: .*lr"),
    ("recipes.network.lr", "fast", "recipes.network.lr: .*valid number.*given: 'fast'"),
    ("recipes.network.lr", -1, "recipes.network.lr: .*greater than 0; given: -1"),
    ("recipes.network.precision", "64", "recipes.network.precision: .*'32', 'bf16-mixed' or '16-mixed'; given: '64'"),
    ("recipes.network.augmentation", "shakes", "'shakes' is not the name of a known augmentation; did you mean shake"),
    (
        "datasets.digits.source",
        {"type": "digit"},
        "datasets.digits.source: type is 'digit', expected one of .*'digits'",
    ),
    ("datasets.digits.source", {"type": "image_folder"}, "datasets.digits.source.root: missing, must be given"),
    ("datasets.digits.samples", None, r"datasets.digits.samples: .*"),
    ("datasets.digits.samples", [1], r"datasets.digits.samples: .*"),
    ("datasets.digits.source", {"type": "digits", "size": 3}, "datasets.digits.source: unknown key 'size'"),
    ("datasets.digits.image_size", 4, "datasets.digits.image_size"),
    (
        "datasets.digits.task",
        "multi_label",
        r"datasets.digits.source: type 'digits' is single_label, multi_label are \['coco', 'csv_manifest', .*; given",
    ),
    ("datasets.digits.source", {"type": "scenes"}, "source: type 'scenes' is multi_label, single_label are .*'digits'"),
    (
        "datasets.digits.source",
        {"type": "csv_manifest", "csv": "list.csv", "task": "multi_label"},
        "source: task is that of the dataset, filled in by the program; leave it out",
    ),
    (
        "datasets.digits.source",
        {"type": "csv_manifest", "csv": "list.csv", "unlabelled": "keep"},
        "source.*unlabelled: keep needs task: multi_label",
    ),
    ("datasets.my-digits", {}, "datasets.my-digits"),
    ("models.resnet.latent_dim", 0, "models.resnet.latent_dim: .*greater than 0; given: 0"),
    ("models.resnet.architecture", None, "models.resnet.architecture: .*valid string; given: None"),
    ("teachers.digits_resnet.dataset", "digit", "teachers.digits_resnet.dataset: 'digit' is not the name of a known"),
    ("teachers.digits_resnet.model", "vgg", "'vgg' is not the name of a known model; known: resnet, byobnet"),
    ("teachers.digits_resnet.recipe", None, "teachers.digits_resnet.recipe: null, but .*weights is scratch"),
    ("joint_teachers.joint_l1.teachers", ["nobody"], "joint_l1.teachers: 'nobody' is not the name of a known teacher"),
    ("joint_teachers.joint_l1.targets", ["digits"] * 2, "joint_l1.targets: 'digits' stands 2 times"),
    ("joint_teachers.joint_l1.level", "L5", "joint_l1.level: .*'L1', 'L2', 'L3' or 'L4'; given: 'L5'"),
    ("joint_teachers.joint_l1.dropout", 1.0, "joint_l1.dropout: .*less than 1; given: 1.0"),
    ("joint_teachers.joint_l2.student_model", "resnet", "joint_l2.student_model: given, but scope is shared"),
    ("joint_teachers.individual", {"level": "L1", "recipe": "fusion"}, "joint_teachers.individual: this name is taken"),
    ("recipes.fusion.cutmix", 1, "joint_l1.recipe: recipe 'fusion' has cutmix 1, but .*embeddings, not on images"),
    ("recipes.network.mixup", -1, "recipes.network.mixup: .*greater than or equal to 0; given: -1"),
    (
        "augmentations.shake.policy",
        "augmix",
        "shake.policy: .*'autoaugment_imagenet'.*; given: 'augmix'",
    ),
    ("augmentations.shake.magnitude", 31, "shake.magnitude: .*less than or equal to 30; given: 31"),
    ("students.mlfd_l1.targets", ["letters"], "mlfd_l1.targets: 'letters' is not the name of a known dataset"),
    ("students.mlfd_l1.teacher", "joint_l9", "mlfd_l1.teacher: 'joint_l9' is not the name of a known joint teacher"),
    ("students.mlfd_l1.level", "L2", "mlfd_l1.level: given L2, but joint teacher 'joint_l1' is fused at L1"),
    ("students.mlfd_l1.distiller", {"name": "mlfdd"}, r"distiller: name is 'mlfdd', expected one of \['at', "),
    (
        "students.mlfd_l1.distiller",
        {"name": "mlfd", "temperature": 0},
        "distiller.temperature: .*greater than 0",
    ),
    ("students.mlfd_l1.distiller", {"name": "mlfd", "tau": 4}, "unknown key 'tau', expected some of .*'temperature'"),
    ("students.kd.level", None, "kd.level: missing; with an individual teacher say L1"),
    ("students.kd.teacher", {"digits": "mnist5k_byobnet"}, "'mnist5k_byobnet' is trained on 'mnist5k'"),
    ("baselines.joint_baseline.model", None, "baselines.joint_baseline.model"),
    ("seeds", [], "seeds: .*at least 1 item"),
    ("seeds", [1, 1], r"seeds: given \[1, 1\]; each seed may stand once"),
    ("seeds", [-1], "seeds.0: .*greater than or equal to 0; given: -1"),
    ("seeds", [2**64], "seeds.0: .*less than 18446744073709551616; given: 18446744073709551616"),
    ("seeds", [1.0], "seeds.0: .*valid integer; given: 1.0"),
    ("seeds", [True], "seeds.0: .*valid integer; given: True; YAML reads yes, no, on and off as true and false"),
    ("seeds", [date(2024, 1, 31)], "seeds.0: .*valid integer; .*YAML reads 2024-01-31 as a date"),
    ("recipes.network.epochs", "1e2", "recipes.network.epochs: .*integer.*; given: '1e2'; write 100"),
    ("recipes.network.epochs", True, "recipes.network.epochs: given: True, expected a number; YAML reads yes"),
    ("joint_teachers.joint_l1.views", True, "joint_l1.views: given: True, expected a number; YAML"),
    (
        "students.mlfd_l1.distiller",
        {"name": "mlfd", "temperature": True},
        "distiller.temperature: given: True, expected",
    ),
    ("reports", {"title": False}, "reports.title: .*valid string; given: False; YAML reads yes, no, on and off"),
    ("experiment", 2024, "experiment: .*valid string; given: 2024; put it in quotes"),
    ("recipes.network.precision", 32, "recipes.network.precision: .*given: 32; put it in quotes"),
    ("datasets", {False: {}}, "valid string; given: False; YAML reads yes, no, on and off"),
    ("models", {"m" * 81: {"architecture": "test_resnet"}}, "models.m+: .*at most 80 characters"),
    ("seeds", [-1] * 10_000, r"seeds.9999: .*; given: -1$"),
    ("seeds", {"a" * 10_000: 1}, r"seeds: .*valid list; given: .{1,200}$"),
    *(
        ("experiment", name, "experiment: expected a name that can be a folder's: at most 100 letters")
        for name in ("", ".", "..", ".hidden", "-n", "a/b", "a b", "a\n", "ä", "a" * 101)
    ),
]


@pytest.mark.parametrize(("key", "value", "message"), MISTAKES, ids=lambda value: str(value)[:40])
def test_load_config__says_what_is_wrong(tiny: Tiny, key: str, value: Any, message: str) -> None:
    *parents, last = key.split(".")
    place = tiny
    for parent in parents:
        place = place[parent]
    place[last] = value
    with pytest.raises(UserError, match=message):
        load_config(tiny)


def test_load_config__takes_numbers_as_yaml_and_people_write_them(tiny: Tiny) -> None:
    tiny["seeds"] = [0, 20240131, 2**64 - 1]
    tiny["recipes"]["network"]["lr"] = yaml.safe_load("1e-3")  # text, for YAML
    tiny["experiment"] = "2024-01-31_a.b"
    config = load_config(tiny)
    assert (config.seeds[2], config.recipes["network"].lr) == (2**64 - 1, 0.001)


def test_load_config__names_every_missing_section() -> None:
    with pytest.raises(UserError, match="datasets: missing, must be given") as raised:
        load_config({})
    assert "teachers: missing" in str(raised.value)


def test_load_config__joint_teacher_without_targets_of_the_student(tiny: Tiny) -> None:
    tiny["joint_teachers"]["joint_l1"]["targets"] = ["mnist5k"]
    with pytest.raises(UserError, match="'digits' is not among the targets of joint teacher 'joint_l1': mnist5k"):
        load_config(tiny)


def test_load_config__target_without_individual_teacher_needs_a_model(tiny: Tiny) -> None:
    del tiny["teachers"]["mnist5k_byobnet"]
    tiny["joint_teachers"]["joint_l2"]["scope"] = "per_target"
    with pytest.raises(UserError, match="student_model: must be given, as dataset 'mnist5k' has no individual"):
        load_config(tiny)


def test_requirements__conda_and_pip_have_the_same_pins() -> None:
    lines = (ROOT / "envs/requirements.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    conda = yaml.safe_load((ROOT / "envs/kd.yaml").read_text())
    assert conda["dependencies"][-1]["pip"] == pins
    assert all(pin.count("==") == 1 for pin in pins)


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.yaml")), ids=lambda path: path.name)
def test_configs__that_come_with_the_project_can_be_planned(path: Path) -> None:
    """Those in folders take data of their own; see tests/data/test_papers_configs.py."""
    assert Plan(load_config(yaml.safe_load(path.read_text()))).rows
