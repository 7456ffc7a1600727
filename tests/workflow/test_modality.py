"""Nothing but a modality and its backbone knows what a sample is: clips of a test's own go through the whole chain."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from kd.cli.verify import verify
from kd.common.errors import UserError
from kd.config.load import load_config
from kd.planning.plan import Plan
from tests.workflow.running import snakemake

TOY = "tests.workflow.toy_clips"
CONFIG = f"""
experiment: clips
seeds: [0]
datasets:
  near: {{source: {{type: {TOY}, count: 60}}, split: {{val: 40, test: 60}}}}
  far: {{source: {{type: {TOY}, count: 50}}, frames: 4, split: {{val: 40, test: 60}}}}
models:
  wide: {{backbone: {TOY}, architecture: frames, kwargs: {{width: 24}}, latent_dim: 16}}
  small: {{backbone: {TOY}, architecture: frames}}
augmentations:
  shift: {{translate: 0.1}}
recipes:
  network: {{lr: 0.01, epochs: 12, batch_size: 32, augmentation: shift, mixup: 0.1}}
  fusion: {{lr: 0.01, epochs: 8, batch_size: 32, augmentation: shift}}
teachers:
  near_wide: {{dataset: near, model: wide, recipe: network}}
  far_wide: {{dataset: far, model: wide, recipe: network}}
joint_teachers:
  vectors: {{level: L1, views: 2, recipe: fusion}}
  maps: {{level: L3, width: 16, views: 2, recipe: fusion, student_model: small}}
students:
  of_vectors: {{teacher: vectors, targets: [near], model: small, recipe: network}}
  of_maps: {{teacher: maps, targets: [near], model: small, recipe: network}}
  live: {{teacher: individual, level: L2, targets: [near], model: small, views: live, recipe: network}}
  kd: {{teacher: individual, targets: [near], model: small, distiller: {{name: kd}}, recipe: network}}
baselines:
  joint_baseline: {{model: small, recipe: network}}
"""


@pytest.fixture
def config() -> dict[str, Any]:
    raw: dict[str, Any] = yaml.safe_load(CONFIG)
    return raw


def test_modality__of_a_test_goes_through_the_whole_chain(tmp_path: Path, config: dict[str, Any]) -> None:
    plan = Plan(load_config(config | {"results": str(tmp_path / "results")}))
    summary, accuracy = (
        next(job for job in plan.stage(stage) if job.name == f"{name}-of-clips")
        for stage, name in (("table", "summary"), ("figure", "accuracy"))
    )
    targets = [str(each.manifest.relative_to(tmp_path)) for each in (summary, accuracy)]
    done = snakemake(tmp_path, *targets, config=config)
    assert done.returncode == 0, done.stdout
    table = pd.read_csv(summary.directory / "summary.csv")
    chosen = table[(table["metric"] == "acc@1") & (table["selection"] == "last") & (table["dataset"] == "near")]
    places = zip(chosen["method"], chosen["level"].fillna(""), strict=True)
    scores = dict(zip(places, chosen["mean"].astype(float), strict=True))
    assert set(scores) == {
        *(("individual", ""), ("joint_teacher", "L1"), ("joint_teacher", "L3"), ("student", "L1"), ("student", "L3")),
        *(("single_dataset_kd_features", "L2"), ("kd", ""), ("joint_baseline", "")),
    }
    assert min(scores.values()) > 60, scores  # one frame tells nothing: 25
    (student,) = (job for job in plan.stage("distill_student") if job.name.startswith("of_maps"))
    assert TOY in student.code
    exported = json.loads((student.directory / "config.json").read_text())
    assert (exported["modality"], exported["sample"]) == (TOY, {"frames": 4})
    made = [job.manifest.is_file() for job in plan.jobs.values()]
    assert {job.stage for job, there in zip(plan.jobs.values(), made, strict=True) if not there} == {"table", "figure"}
    *lines, last = verify(plan, [], rows=2)
    assert not [line for line in lines if not line.startswith("ok")]
    assert last.startswith(f"{sum(made)} verified")


def test_modality__options_are_those_of_its_datasets(config: dict[str, Any]) -> None:
    for change, said in (
        ({"image_size": 32}, "datasets.far: unknown key 'image_size', allowed here: .*frames"),
        ({"frames": "four"}, "datasets.far.frames: input should be a valid integer"),
    ):
        changed = copy.deepcopy(config)
        changed["datasets"]["far"] |= change
        with pytest.raises(UserError, match=said):
            load_config(changed)


def test_modality__a_backbone_of_another_one_is_refused(config: dict[str, Any]) -> None:
    config["models"]["wide"] = {"architecture": "test_resnet"}
    message = f"teachers.near_wide.model: 'wide' takes samples of modality image, dataset 'near' has {TOY}"
    with pytest.raises(UserError, match=re.escape(message)):
        load_config(config)
