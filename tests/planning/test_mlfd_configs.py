"""The configs of MLFD's experiments on images: planned whole on data in the layouts of the real ones, and without any.

That on videos is tried in test_action_config.py.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from kd.cli.forecast import check_fit, forecast_table
from kd.common.errors import UserError
from kd.config.load import load_config, read_config
from kd.models.network import tap_shapes
from kd.models.weights import new_network
from kd.planning.plan import Plan
from tests.conftest import ROOT
from tests.data.official_layouts import MAKERS

FOLDER = ROOT / "config/mlfd"
CONFIGS = sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem != "action")
SEEDS = 3
JOBS = {  # of each seed: teachers, caches, joint teachers, targets, students, baselines
    "main_t1": (3, 9, 9, 3, 9, 1),
    "main_t3": (4, 16, 4, 4, 4, 1),
    "number_of_datasets": (4, 16, 9, 9, 9, 1),
    "single_dataset_kd": (6, 9, 9, 3, 21, 1),
    "same_dataset": (7, 9, 11, 3, 11, 1),
    "same_architecture": (4, 4, 2, 2, 2, 0),
    "cross_dataset": (4, 3, 1, 1, 1, 0),
}
STAGES = (
    *("train_teacher", "cache_embeddings", "train_joint_teacher", "cache_targets", "distill_student", "train_baseline"),
)


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Each dataset in its own layout."""
    return {name: str(make(tmp_path_factory.mktemp(name))) for name, make in MAKERS.items()}


def config_of(name: str, roots: dict[str, str]) -> dict[str, Any]:
    raw = read_config(FOLDER / f"{name}.yaml")
    for dataset in raw["datasets"].values():
        dataset["source"]["root"] = roots.get(dataset["source"]["type"])
    return raw


def test_configs__are_all_here() -> None:
    assert set(CONFIGS) == set(JOBS)


@pytest.mark.parametrize("name", CONFIGS)
def test_config__plans_what_the_paper_compares(roots: dict[str, str], name: str) -> None:
    plan = Plan(load_config(config_of(name, roots)))
    found = Counter(job.stage for job in plan.jobs.values())
    assert tuple(found[stage] // SEEDS for stage in STAGES) == JOBS[name]
    assert all(found[stage] % SEEDS == 0 for stage in STAGES)
    assert found["fetch_dataset"] == 0
    for job in plan.stage("prepare_dataset"):
        assert job.spec["source"]["protocol"] == "mlfd"
        assert job.spec["split"]["val"] == 0.1


def test_configs__share_what_they_have_in_common(roots: dict[str, str]) -> None:
    """What is trained for one table is not trained again for another one."""

    def jobs(name: str) -> set[Path]:
        return {job.directory for job in Plan(load_config(config_of(name, roots))).run().jobs.values()}

    assert jobs("main_t3") < jobs("number_of_datasets")
    assert jobs("main_t1") < jobs("single_dataset_kd")
    assert jobs("main_t1") < jobs("same_dataset")
    for name in ("same_architecture", "cross_dataset"):
        shared = {path.parts[-3] for path in jobs(name) & jobs("main_t3")}
        assert shared == {"prepare_dataset", "train_teacher", "cache_embeddings"}


@pytest.mark.parametrize("name", CONFIGS)
def test_config__without_data_names_every_dataset_and_where_to_get_it(tmp_path: Path, name: str) -> None:
    raw = read_config(FOLDER / f"{name}.yaml") | {"results": str(tmp_path / "results")}
    by_hand = "imagenet_sketch" in raw["datasets"]
    if by_hand:
        raw["datasets"]["imagenet_sketch"]["source"]["root"] = str(tmp_path / "none")
        message = (
            r"^datasets.imagenet_sketch: source.root: .*none is not a folder; .*get ImageNet-Sketch.zip \(7.6 GB\)"
        )
        with pytest.raises(UserError, match=message):
            Plan(load_config(raw))
        del raw["datasets"]["imagenet_sketch"]["source"]["root"]
        raw["datasets"]["imagenet_sketch"]["source"] = {"type": "digits"}
    plan = Plan(load_config(raw))
    fetched = [each for each in raw["datasets"] if each != "imagenet_sketch"]
    assert len(plan.stage("fetch_dataset")) == len(fetched)
    with pytest.raises(UserError) as raised:
        list(check_fit(plan, plan.jobs))
    lines = str(raised.value).splitlines()
    assert [line.split(":")[0] for line in lines] == [f"datasets.{each}" for each in fetched]
    assert all("the target `prefetch` downloads" in line and "://" in line for line in lines)
    prefetch = {job.directory for stage in ("fetch_dataset", "prepare_dataset") for job in plan.stage(stage)}
    assert any("still to be made" in line for line in check_fit(plan, prefetch))
    assert list(forecast_table(plan))[: len(lines)] == lines


MODELS = {
    (path.stem, name): model
    for path in [FOLDER / f"sets/{name}.yaml" for name in ("light", "t2", "t4")]
    for name, model in read_config(path)["models"].items()
}
"""Strides of L2, L3 and L4 are 32, 16 and 8 in all of them."""


@pytest.mark.parametrize("place", MODELS, ids="-".join)
def test_models__are_built_and_tapped_at_every_level(finished: Plan, place: tuple[str, str]) -> None:
    from kd.data.packed import read_info
    from kd.models.spec import ModelSpec

    size = 256 if place[0] == "t2" else 224
    model = ModelSpec.model_validate(MODELS[place] | {"input_size": [size, size]})
    info = read_info(finished.stage("prepare_dataset")[0].directory)
    with torch.device("meta"):
        network = new_network(model, [info])
        found = tap_shapes(network, ["L1", "L2", "L3", "L4"], info.name)
    assert found["L1"] == (model.latent_dim,)
    assert [found[level][1:] for level in ("L2", "L3", "L4")] == [(size // stride,) * 2 for stride in (32, 16, 8)]
    assert timm.is_model(model.architecture)


def test_models__channels_are_those_that_the_papers_code_taps(finished: Plan) -> None:
    from kd.data.packed import read_info
    from kd.models.spec import ModelSpec

    info = read_info(finished.stage("prepare_dataset")[0].directory)
    channels = {}
    for name, model in read_config(FOLDER / "sets/light.yaml")["models"].items():
        spec = ModelSpec.model_validate(model | {"input_size": [224, 224]})
        with torch.device("meta"):
            found = tap_shapes(new_network(spec, [info]), ["L2", "L3", "L4"], info.name)
        channels[name] = [found[level][0] for level in ("L2", "L3", "L4")]
    assert channels["resnet18"] == [512, 256, 128]
    assert channels["seresnext26d"] == [2048, 1024, 512]
    assert channels["efficientnet_b0"] == [1280, 112, 40]
