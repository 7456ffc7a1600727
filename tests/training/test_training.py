"""Training: it learns, it is reproducible, it goes on where it stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from kd.data.modalities.image import Samples
from kd.data.options import SplitOptions
from kd.data.packed import DatasetInfo
from kd.distillers import mlfd
from kd.distillers.criterion import DistillationLoss
from kd.models.outputs import Outputs
from kd.models.spec import ModelSpec
from kd.models.taps import Tapped
from kd.models.weights import load_network, new_network
from kd.training.optimisation import make_optimizer, make_schedule
from kd.training.recipe import Recipe
from kd.training.students import Student
from kd.training.supervised import LabelledBatch, classification_loss, train_network
from tests.conftest import pack_digits
from tests.training.chain import (
    MODEL,
    RECIPE,
    folder,
    losses,
    same_weights,
)

SMALL_SWIN = {"img_size": 32, "patch_size": 2, "window_size": 4, "depths": (1, 1), "num_heads": (1, 2), "embed_dim": 8}


def test_train_network__learns_and_is_reproducible(tmp_path: Path, dataset: Path) -> None:
    result, device = train_network(folder(tmp_path / "a"), [dataset], MODEL, RECIPE, 0)
    train_network(folder(tmp_path / "b"), [dataset], MODEL, RECIPE, 0)
    train_network(folder(tmp_path / "c"), [dataset], MODEL, RECIPE, 1)
    curve = losses(tmp_path / "a")
    assert curve[-1] < 0.8 * curve[0]
    assert same_weights(tmp_path / "a/network.safetensors", tmp_path / "b/network.safetensors")
    assert not same_weights(tmp_path / "a/network.safetensors", tmp_path / "c/network.safetensors")
    assert {(row["selection"], row["metric"]) for row in result["metrics"]} == {
        (selection, metric) for selection in ("best_val", "last") for metric in ("acc@1", "acc@5", "mAP", "val_acc@1")
    }
    assert device == "cpu"
    assert not list((tmp_path / "a").glob(".checkpoint*"))


def test_train_network__several_datasets_each_by_its_own_head(
    tmp_path: Path, dataset: Path, other_dataset: Path
) -> None:
    result, _ = train_network(folder(tmp_path / "a"), [dataset, other_dataset], MODEL, RECIPE, 0)
    assert {row["dataset"] for row in result["metrics"]} == {"digits", "other"}
    assert set(load_network(tmp_path / "a").heads.datasets()) == {"digits", "other"}
    assert losses(tmp_path / "a")[-1] < losses(tmp_path / "a")[0]


def test_train_network__datasets_of_different_image_sizes(tmp_path: Path, dataset: Path) -> None:
    split = SplitOptions(train=20, val=10, test=10, seed=2)
    large = pack_digits(folder(tmp_path / "large"), "large", split, image_size=(40, 48))
    result, _ = train_network(folder(tmp_path / "a"), [dataset, large], MODEL, RECIPE, 0)
    assert {row["dataset"] for row in result["metrics"]} == {"digits", "large"}


def test_classification_loss__each_sample_by_the_head_of_its_dataset() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = {"a": torch.randn(5, 3, generator=generator), "b": torch.randn(5, 4, generator=generator)}
    labels = torch.tensor([0, 2, 3, 1, 0])
    batch = LabelledBatch(None, {"a": labels[:2], "b": labels[2:]}, {"a": slice(0, 2), "b": slice(2, 5)})
    expected = 0.0
    for row, name in enumerate("aabbb"):
        powers = logits[name][row].double().exp()
        expected -= (powers[labels[row]] / powers.sum()).log().item() / 5
    loss = classification_loss(Outputs(torch.zeros(5, 1), logits=logits), batch)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("seed", [18_283, 20_261_126, 2**63, 2**64 - 1])
def test_train_network__takes_any_seed(tmp_path: Path, dataset: Path, seed: int) -> None:
    recipe = RECIPE.model_copy(update={"epochs": 1, "batch_size": 60, "mixup": 0.5})
    train_network(folder(tmp_path / "a"), [dataset], MODEL, recipe, seed)
    assert losses(tmp_path / "a")


def backbones(architecture: str, **kwargs: Any) -> dict[str, torch.nn.Module]:
    """A timm model as teachers and baselines, and as students, have it."""
    infos = [
        DatasetInfo(name, ("a", "b"), Samples(image_size=(32, 32)), (0.5,) * 3, (0.5,) * 3, {})
        for name in ("one", "two")
    ]
    model = ModelSpec(architecture=architecture, kwargs=kwargs, latent_dim=4)
    made = {"teacher": infos[:1], "baseline": infos, "student": infos[:1]}
    networks = {name: new_network(model, each) for name, each in made.items()}
    loss = DistillationLoss(mlfd.Method(), {"L2": (4, 1, 1)}, {"L2": (5, 1, 1)}, samples=10)
    return networks | {"student": Student(Tapped(networks["student"]), loss)}


@pytest.mark.parametrize("whose", ["teacher", "baseline", "student"])
@pytest.mark.parametrize(
    ("architecture", "kwargs", "spared"),
    [
        ("test_vit", {}, ["cls_token", "pos_embed"]),
        ("test_resnet", {}, []),
        ("swin_tiny_patch4_window7_224", SMALL_SWIN, ["relative_position_bias_table"]),
    ],
)
def test_make_optimizer__does_not_decay_what_timm_spares(
    whose: str, architecture: str, kwargs: dict[str, Any], spared: list[str]
) -> None:
    module = backbones(architecture, **kwargs)[whose]
    recipe = Recipe(lr=0.1, epochs=1, batch_size=2, weight_decay=0.05)
    groups = make_optimizer(module, recipe, torch.device("cpu")).param_groups
    decayed = {id(each) for group in groups if group["weight_decay"] for each in group["params"]}
    assert {group["weight_decay"] for group in groups} == {0.0, 0.05}
    assert sum(len(group["params"]) for group in groups) == len(list(module.parameters()))
    for name, parameter in module.named_parameters():
        last = name.rpartition(".")[2]
        assert (id(parameter) in decayed) == (parameter.ndim > 1 and last not in spared), name
    assert all(any(name.endswith(each) for name, _ in module.named_parameters()) for each in spared)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one_cycle"])
@pytest.mark.parametrize("steps", [1, 2, 10, 500])
@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.9])
@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler")
def test_make_schedule__stays_within_its_peak(schedule: Any, steps: int, warmup: float) -> None:
    recipe = Recipe(optimizer="sgd", momentum=0.5, lr=0.1, epochs=1, batch_size=2, schedule=schedule, warmup=warmup)
    optimizer = make_optimizer(torch.nn.Linear(2, 2), recipe, torch.device("cpu"))
    scheduler = make_schedule(optimizer, recipe, steps)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert all(0 <= rate <= 0.1 + 1e-9 for rate in rates)
    assert optimizer.param_groups[0]["momentum"] == 0.5
    if schedule != "constant" and steps == 500:
        assert max(rates) > 0.099
        assert rates[-1] < 0.01


def test_train_network__brought_weights_stay_as_they_are(
    tmp_path: Path, dataset: Path, teachers: dict[str, Path]
) -> None:
    weights = {"path": str(teachers["digits"] / "network.safetensors")}
    model = ModelSpec.model_validate(MODEL.model_dump() | {"weights": weights})
    result, _ = train_network(folder(tmp_path / "a"), [dataset], model, None, 0)
    assert load_network(tmp_path / "a").config == load_network(teachers["digits"]).config  # its statistics, too
    assert same_weights(tmp_path / "a/network.safetensors", teachers["digits"] / "network.safetensors")
    assert len(result["metrics"]) == 8
