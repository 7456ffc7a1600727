"""What is no longer finite ends a training, of one process or of two, with one message and nothing stored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from lightning_fabric import Fabric
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from kd.common.errors import UserError
from kd.models.devices import make_fabric
from kd.models.finite import first_not_finite
from kd.models.weight_files import save_tensors
from kd.training import loop
from kd.training.loop import CHECKPOINT, HISTORY, fit
from kd.training.metrics import primary
from kd.training.objective import Objective
from kd.training.recipe import Recipe
from kd.training.supervised import Classification, train_network
from kd.training.watch import Watch
from tests.training.chain import MODEL, RECIPE, folder
from tests.training.pair import in_two_processes

EPOCHS, STEPS = 2, 12
LAST = (EPOCHS - 1, STEPS - 1)


@dataclass(frozen=True)
class Fault:
    """What goes wrong, in which process and when; and what must be said of it."""

    kind: str
    rank: int
    when: tuple[int, int]
    said: str
    recipe: dict[str, Any]

    @property
    def name(self) -> str:
        return "-".join([self.kind, str(self.rank), *map(str, self.when), *self.recipe])


FAULTS = [
    Fault("loss", 1, LAST, "loss is nan at epoch 1, step 11", {}),
    Fault("loss", 0, LAST, "loss is nan at epoch 1, step 11", {}),
    Fault("loss", 1, (0, 3), "loss is nan at epoch 0, step 3", {}),
    Fault("loss", 1, (1, 9), "loss is nan at epoch 1, step 9", {"ema": 0.9}),
    Fault("gradient", 1, LAST, "gradient of 2.weight is not finite at epoch 1, step 11", {}),
    Fault("gradient", 1, LAST, "gradient of 2.weight is not finite at epoch 1, step 11", {"clip_grad": 1.0}),
    Fault("gradient", 0, (0, 9), "gradient of 2.weight is not finite at epoch 0, step 9", {"clip_grad": 1.0}),
    Fault("buffer", 0, LAST, "weight 1.running_var is not finite at epoch 1, step 11", {}),
    Fault("buffer", 1, LAST, "weight 1.running_var is not finite at epoch 1, step 11", {}),
    Fault("average", 0, LAST, "moving average (recipe ema) of weight 0.weight is not finite at epoch 1", {"ema": 0.9}),
    Fault(
        "average", 1, (0, 9), "moving average (recipe ema) of weight 0.weight is not finite at epoch 0", {"ema": 0.9}
    ),
    Fault("huge", 1, LAST, "state of the optimizer for weight 2.weight (exp_avg_sq) is not finite at epoch 1", {}),
    Fault("validate", 0, (0, 0), "val cannot be measured", {}),
    Fault("logits", 0, (0, 0), "logits of the toy are not finite for 2 of 2 samples at epoch 0, step 11: training", {}),
    Fault("none", 0, (0, 0), "", {"ema": 0.9, "clip_grad": 1.0}),
]
PARAMETRIZED = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)


class _Scaled(torch.autograd.Function):
    """Zero, with a gradient of a given size."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, size: float) -> Tensor:
        ctx.shape, ctx.size = values.shape, size
        return values.new_zeros(())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * torch.full(ctx.shape, ctx.size), None


class Toy(Objective):
    """An objective without data, whose loss is 1 in the first process and 2 in the second, but for a fault."""

    metric = "acc@1"
    steps = STEPS

    def __init__(self, fabric: Fabric, fault: Fault, recipe: Recipe) -> None:
        torch.manual_seed(0)
        self.module = self.layers = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        self.recipe, self.seed = recipe, 2**64 - 1
        self.fabric, self.fault, self.done = fabric, fault, 0

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[float, tuple[int, int]]]:
        for step in range(start, self.steps):
            yield 1 / self.fabric.world_size, (epoch, step)

    def loss(self, module: nn.Module, batch: tuple[int, int]) -> Tensor:
        self.done += 1
        output = module(torch.linspace(0, 1, 12).view(3, 4)).square().mean()
        loss: Tensor = output - output.detach() + 1 + self.fabric.global_rank
        if batch != self.fault.when or self.fabric.global_rank != self.fault.rank:
            return loss
        if self.fault.kind == "loss":
            loss = loss * torch.nan
        elif self.fault.kind in {"gradient", "huge"}:
            size = torch.inf if self.fault.kind == "gradient" else 1e30
            loss = loss + _Scaled.apply(self.layers[2].weight, size)
        elif self.fault.kind == "buffer":
            self.layers[1].get_buffer("running_var").data.fill_(torch.nan)
        return loss

    def validate(self, module: nn.Module) -> float:  # noqa: ARG002
        if self.fault.kind == "validate":
            raise UserError("val cannot be measured")
        if self.fault.kind == "logits":
            primary("single_label", torch.full((2, 3), torch.inf), torch.tensor([0, 1]), "the toy")
        return 50.0


class _SpoiltAverage(ModelEmaV3):  # type: ignore[misc]
    """Spoils itself once."""

    when = -1

    def update(self, model: nn.Module, step: int | None = None) -> None:
        super().update(model, step)
        if step == self.when:
            next(self.module.parameters()).data.fill_(torch.inf)


def train(fabric: Fabric, fault: Fault, directory: Path) -> dict[str, Any]:
    """What came of a training with a fault."""
    spoils = fault.kind == "average" and fault.rank == fabric.global_rank
    _SpoiltAverage.when = fault.when[0] * STEPS + fault.when[1] if spoils else -1
    recipe = Recipe.model_validate(
        {"lr": 1e-3, "epochs": EPOCHS, "batch_size": 6, "schedule": "constant"} | fault.recipe
    )
    toy = Toy(fabric, fault, recipe)
    found: dict[str, Any] = {"end": "finished", "said": ""}
    try:
        fitted = fit(toy, folder(directory))
        found["bad"] = first_not_finite({k + n: v for k, kept in fitted.weights.items() for n, v in kept.items()})
    except UserError as error:
        found |= {"end": "error", "said": str(error)}
    except SystemExit as error:
        found |= {"end": f"exit {error.code}"}
    return found | {"done": toy.done}


@pytest.fixture(autouse=True)
def _checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


def hurry(patch: pytest.MonkeyPatch) -> None:
    """A checkpoint whenever there may be one."""
    patch.setattr(loop, "CHECKPOINT_EVERY_SECONDS", 0.0)
    patch.setattr(loop, "CHECKPOINT_COST", float("inf"))
    patch.setattr(loop, "ModelEmaV3", _SpoiltAverage)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, dict[str, Any]]]]:
    """What came of all faults in two processes, and where."""
    directory = tmp_path_factory.mktemp("two")

    def work() -> dict[str, dict[str, Any]]:
        hurry(pytest.MonkeyPatch())
        fabric = make_fabric("32", training=True)
        found = {fault.name: train(fabric, fault, directory / fault.name) for fault in FAULTS}
        backend = torch.distributed.group.WORLD._get_backend(torch.device("cpu"))  # type: ignore[union-attr]
        return found | {"wait": {"seconds": backend.options._timeout.total_seconds()}}

    return directory, in_two_processes(directory, work)


def check(fault: Fault, found: dict[str, Any], directory: Path) -> None:
    """Of the first process."""
    if fault.kind == "none":
        assert (found["end"], found["bad"]) == ("finished", None)
        return
    assert found["end"] == "error"
    assert found["said"].startswith(fault.said)
    assert not (directory / HISTORY).exists()
    kept = directory / CHECKPOINT
    if kept.is_file():
        content = torch.load(kept, weights_only=True)
        flat = {f"{place}.{name}": each for place in ("module", "ema") for name, each in (content[place] or {}).items()}
        assert first_not_finite(flat) is None
        assert fault.kind == "validate" or str(kept) in found["said"]
        if fault.kind in {"validate", "logits"}:
            assert len(content["fit"]["losses"]) == STEPS  # the end of an epoch is a time for checkpoints, too
    else:
        assert fault.when < (0, 8)


@PARAMETRIZED
def test_fit__of_two_processes_ends_where_something_is_not_finite_in_any(
    two: tuple[Path, list[dict[str, dict[str, Any]]]], fault: Fault
) -> None:
    directory, (first, second) = two
    check(fault, first[fault.name], directory / fault.name)
    assert second[fault.name]["end"] == "exit 0"  # without a message of its own
    assert first[fault.name]["done"] == second[fault.name]["done"]


def test_fit__of_two_processes_ends_within_8_steps(two: tuple[Path, list[dict[str, dict[str, Any]]]]) -> None:
    assert [found["loss-1-0-3"]["done"] for found in two[1]] == [8, 8]


def test_fit__of_two_processes_waits_for_the_first_to_measure(
    two: tuple[Path, list[dict[str, dict[str, Any]]]],
) -> None:
    assert [found["wait"]["seconds"] > timedelta(days=1).total_seconds() for found in two[1]] == [True, True]


def test_fit__history_has_the_mean_loss_of_all_processes(
    two: tuple[Path, list[dict[str, dict[str, Any]]]],
) -> None:
    directory, _ = two
    assert pd.read_csv(directory / FAULTS[-1].name / HISTORY)["loss"].tolist() == pytest.approx([1.5] * EPOCHS)


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.rank == 0], ids=lambda fault: fault.name)
def test_fit__ends_where_something_is_not_finite(tmp_path: Path, fault: Fault) -> None:
    check(fault, train(make_fabric("32", training=True), fault, tmp_path), tmp_path)


def test_watch__leaves_gradients_to_the_scaler_of_16_bits() -> None:
    """It skips steps whose gradients overflow; weights, however, must be finite."""
    fabric = make_fabric("32")
    module = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(module.parameters())
    for scaled in (True, False):
        watch = Watch(fabric, module, optimizer, None, scaled=scaled)
        module.weight.grad = torch.full_like(module.weight, torch.inf)
        watch.note(torch.ones(()))
        if scaled:
            assert watch.agree(0, False, True) == ([1.0], [False, True])
        else:
            with pytest.raises(Exception, match="gradient of weight is not finite"):
                watch.agree(0)


def test_train_network__stores_nothing_where_its_last_loss_is_not_finite(
    tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Classification.loss
    calls: list[None] = []

    def loss(task: Classification, module: nn.Module, batch: Any) -> Tensor:
        calls.append(None)
        value = original(task, module, batch)
        return value * torch.inf if len(calls) == RECIPE.epochs * task.steps else value

    monkeypatch.setattr(Classification, "loss", loss)
    with pytest.raises(UserError, match=f"loss is inf at epoch {RECIPE.epochs - 1}, step 3"):
        train_network(folder(tmp_path / "a"), [dataset], MODEL, RECIPE, 0)
    assert not list((tmp_path / "a").glob("[!.]*"))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_save_tensors__refuses_what_is_not_finite(tmp_path: Path, value: float) -> None:
    tensors = {"a": torch.ones(3), "empty": torch.ones(0), "count": torch.ones((), dtype=torch.int64)}
    save_tensors(tmp_path / "good.safetensors", tensors)
    bad = torch.ones(2, 2)
    bad[1, 0] = value
    with pytest.raises(UserError, match=r"bad.safetensors: b is not finite"):
        save_tensors(tmp_path / "bad.safetensors", tensors | {"b": bad})
    assert not (tmp_path / "bad.safetensors").exists()
