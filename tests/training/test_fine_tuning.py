"""What recipes say of fine-tuning: frozen batch norms, a learning rate of heads, steps of the learning rate."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import nn

from kd.common.errors import UserError
from kd.config.load import load_config
from kd.data.modalities.image import Samples
from kd.data.packed import DatasetInfo
from kd.distillers.criterion import DistillationLoss
from kd.distillers.registry import create_method
from kd.models.joint import JointConfig, JointTeacher
from kd.models.spec import ModelSpec
from kd.models.taps import Tapped
from kd.models.weights import load_network, new_network
from kd.training.optimisation import freeze_norms, make_optimizer, make_schedule
from kd.training.recipe import Recipe
from kd.training.students import Student
from kd.training.supervised import train_network
from tests.training.chain import MODEL, folder

INFO = DatasetInfo("digits", ("a", "b", "c"), Samples(image_size=32), (0.5,) * 3, (0.5,) * 3, {})
CPU = torch.device("cpu")
ENCODER = {"width": 8, "heads": 2, "hidden": 4}
NORM_PARTS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def recipe(**options: Any) -> Recipe:
    return Recipe.model_validate({"lr": 0.02, "epochs": 2, "batch_size": 16, "optimizer": "sgd"} | options)


def student(**options: Any) -> Student:
    """With an auxiliary module that has a norm and is called as heads are not."""
    network = new_network(ModelSpec.model_validate({"architecture": "test_resnet"} | options), [INFO])
    loss = DistillationLoss(create_method("kd"), {}, {}, samples=10)
    loss.auxiliary = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    return Student(Tapped(network, ("logits", "L1")), loss)


@pytest.mark.parametrize("freeze", ["none", "all_but_first", "all"])
def test_train_network__frozen_batch_norms_stay_as_they_are(
    freeze: str, tmp_path: Path, dataset: Path, teachers: dict[str, Path]
) -> None:
    given = teachers["digits"] / "network.safetensors"
    model = ModelSpec.model_validate(MODEL.model_dump() | {"weights": {"path": str(given)}})
    train_network(folder(tmp_path / "a"), [dataset], model, recipe(freeze_norm=freeze, ema=0.5, weight_decay=0.1), 0)
    before, after = load_file(given), load_file(tmp_path / "a/network.safetensors")
    modules = load_network(tmp_path / "a").named_modules()
    norms = [name for name, each in modules if isinstance(each, nn.BatchNorm2d)]
    first, others = norms[0], norms[1:]
    assert first == "backbone.conv1.1"  # of a stem of several convolutions
    assert len(others) > 5
    frozen = {"none": [], "all_but_first": others, "all": norms}[freeze]
    for name, value in before.items():
        place, _, part = name.rpartition(".")
        stays = place in frozen and part in NORM_PARTS
        assert torch.equal(value, after[name]) == stays, name


def test_freeze_norms__of_networks_with_none_and_of_joint_teachers() -> None:
    assert freeze_norms(student(), recipe()) == []
    with pytest.raises(UserError, match="recipe freeze_norm: all, but the network has no such batch norms"):
        freeze_norms(student(architecture="test_convnext"), recipe(freeze_norm="all"))
    joint = JointTeacher(
        JointConfig(level="L2", channels=[4], grid=(2, 2), map_channels=[3], width=5, dropout=0.5, heads={"d": 3})
    )
    with pytest.raises(UserError, match="no such batch norms"):
        freeze_norms(joint, recipe(freeze_norm="all"))


def test_freeze_norms__leaves_what_is_trained_beside_the_network() -> None:
    module = student()
    frozen = freeze_norms(module, recipe(freeze_norm="all"))
    kept = {id(each) for norm in frozen for each in norm.parameters()}
    trained = {id(p) for group in make_optimizer(module, recipe(), CPU).param_groups for p in group["params"]}
    assert trained == {id(p) for p in module.parameters()} - kept
    assert module.criterion.auxiliary is not None
    assert {id(p) for p in module.criterion.auxiliary.parameters()} <= trained


@pytest.mark.parametrize("options", [{}, {"latent_dim": 5}, {"label_encoder": ENCODER}])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_make_optimizer__heads_have_a_rate_of_their_own(options: dict[str, Any], weight_decay: float) -> None:
    module = student(**options)
    wanted = recipe(head_lr=5, weight_decay=weight_decay)
    optimizer = make_optimizer(module, wanted, CPU)
    found = {id(p): (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]}
    plain = make_optimizer(module, recipe(weight_decay=weight_decay), CPU).param_groups
    decays = {id(p): group["weight_decay"] for group in plain for p in group["params"]}
    assert {group["lr"] for group in plain} == {0.02}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(found) == len(decays)
    heads = 0
    for name, parameter in module.named_parameters():
        is_head = re.search(r"^network\.module\.(heads|labels)\.by_dataset\.", name) is not None
        assert found[id(parameter)] == (pytest.approx(0.1 if is_head else 0.02), decays[id(parameter)]), name
        heads += is_head
    assert heads == 2


def rates(wanted: Recipe, epochs_steps: int) -> list[list[float]]:
    """Learning rates of the groups in each step."""
    optimizer = make_optimizer(student(), wanted, CPU)
    schedule = make_schedule(optimizer, wanted, (wanted.schedule_epochs or wanted.epochs) * epochs_steps)
    found = []
    for _ in range(wanted.epochs * epochs_steps):
        found.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one_cycle", "step"])
def test_make_schedule__keeps_the_proportion_of_heads(schedule: str) -> None:
    options = {"schedule": schedule, "epochs": 10, "milestones": [4, 7] if schedule == "step" else []}
    apart, plain = rates(recipe(head_lr=5, **options), 3), rates(recipe(**options), 3)
    for several, (alone, *_) in zip(apart, plain, strict=True):
        assert sorted(several) == pytest.approx(sorted([alone, 5 * alone] * (len(several) // 2)))


@pytest.mark.parametrize("schedule_epochs", [None, 12])
@pytest.mark.parametrize("steps", [1, 7])
def test_make_schedule__falls_to_a_tenth_after_each_milestone(schedule_epochs: int | None, steps: int) -> None:
    wanted = recipe(schedule="step", milestones=[2, 5, 9], epochs=10, warmup=0, lr=0.5, schedule_epochs=schedule_epochs)
    expected = [rate for rate in (0.5, 0.5, *[0.05] * 3, *[0.005] * 4, 0.0005) for _ in range(steps)]
    assert [each for each, *_ in rates(wanted, steps)] == pytest.approx(expected)


def test_make_schedule__steps_after_a_warm_up() -> None:
    wanted = recipe(schedule="step", milestones=[5], epochs=10, warmup=0.2, lr=0.3)
    expected = [0.1, 0.2, 0.3, 0.3, 0.3, *[0.03] * 5]
    assert [each for each, *_ in rates(wanted, 1)] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "step"}, r"milestones are \[\], expected some with schedule step"),
        ({"milestones": [1]}, r"milestones are \[1\], expected some with schedule step, and none with others"),
        ({"schedule": "step", "milestones": [2]}, r"milestones are \[2\], expected ascending .* from 1 to 1"),
        ({"schedule": "step", "epochs": 9, "milestones": [5, 3]}, "expected ascending"),
        ({"schedule": "step", "epochs": 9, "milestones": [3, 3]}, "expected ascending"),
        ({"schedule": "step", "epochs": 9, "milestones": [0, 3]}, "greater than 0"),
        ({"schedule": "step", "epochs": 9, "milestones": [2.5]}, "integer"),
        ({"head_lr": 0}, "greater than 0"),
        ({"head_lr": -1}, "greater than 0"),
        ({"freeze_norm": "some"}, "'none', 'all_but_first' or 'all'"),
    ],
)
def test_recipe__senseless_values(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        recipe(**options)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "network",
            r"teachers\.digits_resnet\.recipe: recipe 'network' has freeze_norm all, but models\.resnet\.weights",
        ),
        (
            "fusion",
            r"joint_teachers\.joint_l1\.recipe: recipe 'fusion' has freeze_norm all, but a joint teacher has no",
        ),
    ],
)
def test_config__frozen_batch_norms_come_with_weights(tiny: dict[str, Any], name: str, message: str) -> None:
    tiny["recipes"][name]["freeze_norm"] = "all"
    with pytest.raises(UserError, match=message):
        load_config(tiny)
    if name == "network":
        for model in tiny["models"].values():
            model["weights"] = "pretrained"
        assert load_config(tiny).recipes["network"].freeze_norm == "all"
