"""The one training loop: individual teachers, joint teachers, students and baselines all go through it."""

from __future__ import annotations

import csv
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from torch import Tensor, nn

from kd.jobs.errors import UserError
from kd.jobs.files import replacing
from kd.jobs.progress import Progress
from kd.training.optimisation import make_optimizer, make_schedule
from kd.training.recipe import Recipe

CHECKPOINT = ".checkpoint.pt"
CHECKPOINT_EVERY_SECONDS = 30.0
HISTORY = "history.csv"

State = dict[str, Tensor]
log = logging.getLogger("kd")


class Task(Protocol):
    """What is trained on what.

    Attributes:
        steps: optimiser steps in an epoch.
    """

    steps: int

    @property
    def module(self) -> nn.Module:
        """Holds every parameter that trains."""

    def batches(self, epoch: int) -> Iterator[Any]:
        """The batches of an epoch, on the device; a pure function of the epoch."""

    def loss(self, module: nn.Module, batch: Any) -> Tensor:
        """Scalar loss of a batch; `module` is `self.module` as Fabric wrapped it."""

    def validate(self) -> float:
        """acc@1 on val in percent; the mean over datasets if there are several."""


@dataclass
class Fit:
    """A finished training, or one in progress.

    Attributes:
        weights: state dicts on the CPU by selection, `best_val` and `last`.
        best: the best acc@1 on val so far; the earliest epoch wins a tie.
        history: a row per epoch.
    """

    weights: dict[str, State] = field(default_factory=dict)
    best: float = -1.0
    best_epoch: int = -1
    history: list[dict[str, float]] = field(default_factory=list)


def make_fabric(precision: str) -> Fabric:
    """One device: a GPU if there is one, else the CPU.

    Raises:
        UserError: the device cannot compute in this precision.
    """
    # The environment is named, since Fabric would take a job of Slurm, or a machine that has it, for one of its own.
    environment = LightningEnvironment()
    fabric = Fabric(accelerator="auto", devices=1, precision=precision, plugins=environment)  # type: ignore[arg-type]
    if fabric.device.type == "cpu" and precision == "16-mixed":
        raise UserError("recipe precision: 16-mixed needs a GPU, and there is none; take 32 or bf16-mixed")
    if fabric.device.type == "cpu":
        log.info("no GPU found: running on the CPU with %d threads", torch.get_num_threads())
    return fabric


def fit(fabric: Fabric, task: Task, recipe: Recipe, seed: int, directory: Path) -> Fit:
    """Train `task.module` for `recipe.epochs`, from the last checkpoint if there is one.

    Order, views and dropout of an epoch depend on seed and epoch alone, so that training continued from a
    checkpoint equals training never interrupted.

    Args:
        fabric: owns device and precision.
        task: what is trained.
        recipe: how.
        seed: of the run.
        directory: for the checkpoint and history.csv.

    Raises:
        UserError: the loss is no longer finite, or the device's memory is too small.
    """
    try:
        return _fit(fabric, task, recipe, seed, directory)
    except torch.OutOfMemoryError as error:
        raise UserError(f"out of GPU memory; lower recipe batch_size ({recipe.batch_size}): {error}") from error


def _fit(fabric: Fabric, task: Task, recipe: Recipe, seed: int, directory: Path) -> Fit:
    optimizer = make_optimizer(task.module, recipe)
    schedule = make_schedule(optimizer, recipe, recipe.epochs * task.steps)
    module, wrapped = fabric.setup(task.module, optimizer)
    state = Fit()
    checkpoint = directory / CHECKPOINT
    if checkpoint.is_file():  # after setup: optimiser state goes to the device that the parameters are on
        state = _restore(checkpoint, task.module, optimizer, schedule)
        log.info("continuing after epoch %d of %d", len(state.history), recipe.epochs)
    progress = Progress(recipe.epochs * task.steps, "step", done=len(state.history) * task.steps)
    shown: dict[str, float] = {}
    saved = time.monotonic()
    for epoch in range(len(state.history), recipe.epochs):
        started = time.monotonic()
        torch.manual_seed(seed * 1_000_003 + epoch)
        module.train()
        losses = []
        for batch in task.batches(epoch):
            loss = task.loss(module, batch)
            wrapped.zero_grad()
            fabric.backward(loss)
            if recipe.clip_grad is not None:
                # Gradients that are not finite are skipped by the scaler of 16-mixed, or seen in the loss below.
                fabric.clip_gradients(module, wrapped, max_norm=recipe.clip_grad, error_if_nonfinite=False)
            wrapped.step()
            schedule.step()
            losses.append(loss.detach())
            if len(losses) < task.steps:
                progress.step(figures=shown)
        mean_loss = _mean_loss(torch.stack(losses), epoch, recipe)
        accuracy = task.validate()
        seconds = time.monotonic() - started
        state.history.append({"epoch": epoch, "loss": mean_loss, "val_acc@1": accuracy, "seconds": seconds})
        if accuracy > state.best:
            state.best, state.best_epoch = accuracy, epoch
            state.weights["best_val"] = _snapshot(task.module)
        shown = {"epoch": epoch + 1, "loss": mean_loss, "val": accuracy}
        progress.step(figures=shown)
        if time.monotonic() - saved > CHECKPOINT_EVERY_SECONDS:
            _save(checkpoint, task.module, optimizer, schedule, state)
            saved = time.monotonic()
    state.weights["last"] = _snapshot(task.module)
    _write_history(directory / HISTORY, state.history)
    return state


def finish(directory: Path) -> None:
    """Remove the checkpoint of a stage that has stored its results."""
    (directory / CHECKPOINT).unlink(missing_ok=True)


def _mean_loss(losses: Tensor, epoch: int, recipe: Recipe) -> float:
    bad = (~torch.isfinite(losses)).nonzero()
    if len(bad):
        step = int(bad[0])
        raise UserError(
            f"loss is {losses[step].item()} at epoch {epoch}, step {step}: training diverged; lower recipe lr"
            f" ({recipe.lr:g}), set clip_grad, or use another precision than {recipe.precision}"
        )
    return losses.mean().item()


def _snapshot(module: nn.Module) -> State:
    return {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}


def _save(path: Path, module: nn.Module, optimizer: Any, schedule: Any, state: Fit) -> None:
    """Write a checkpoint; a kill at any moment leaves the old one or the new one."""
    content = {
        "module": module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "fit": vars(state),
    }
    with replacing(path) as partial:
        torch.save(content, partial)


def _restore(path: Path, module: nn.Module, optimizer: Any, schedule: Any) -> Fit:
    content = torch.load(path, map_location="cpu", weights_only=True)
    module.load_state_dict(content["module"])
    optimizer.load_state_dict(content["optimizer"])
    schedule.load_state_dict(content["schedule"])
    return Fit(**content["fit"])


def _write_history(path: Path, history: list[dict[str, float]]) -> None:
    with replacing(path) as partial, partial.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(history[0]))
        writer.writeheader()
        writer.writerows(history)
