"""The one training loop: individual teachers, joint teachers, students and baselines all go through it.

`history.csv` has a line for each epoch: `epoch` (from 0), `loss` (the mean over the epoch), `val_acc@1` or, of
multi-label datasets, `val_mAP` (of a network for datasets of both kinds `val_score`, their mean), and `seconds`.
`.checkpoint.pt` is what an interrupted training goes on from; it is removed at the end.
"""

from __future__ import annotations

import csv
import logging
import signal
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from kd.artefacts.files import replacing
from kd.common.errors import UserError, shown
from kd.common.streams import torch_seed
from kd.jobs.environment import events_wanted
from kd.jobs.progress import Progress
from kd.jobs.stopping import Stopped, not_postponed, postponed, stop_if_requested, stop_requested
from kd.models.devices import share_statistics
from kd.training.measuring import result_rows, store_predictions
from kd.training.metrics import NotFiniteError
from kd.training.objective import Objective, SamplesObjective
from kd.training.optimisation import freeze_norms, make_optimizer, make_schedule
from kd.training.samples import Samples
from kd.training.watch import DivergedError, Watch

CHECKPOINT = ".checkpoint.pt"
CHECKPOINT_EVERY_SECONDS = 30.0
CHECKPOINT_COST = 0.01  # of the time that training takes, at most
AGREE_EVERY_STEPS = 8  # at these steps several processes stop, write a checkpoint or find that they diverged
HISTORY = "history.csv"
EVENTS = ".events"

State = dict[str, Tensor]
ItemT = TypeVar("ItemT")
log = logging.getLogger("kd")


@dataclass
class Fit:
    """A finished training, or one in progress.

    Attributes:
        weights: state dicts on the CPU by selection, `best_val` and `last`; `last` alone where nothing is measured.
        best: the best score on val so far; the earliest epoch wins a tie.
        history: a row per finished epoch.
        losses: of the finished steps of the epoch that is not finished, each a mean over the whole batch.
        seconds: that this epoch has taken so far.
    """

    weights: dict[str, State] = field(default_factory=dict)
    best: float = -1.0
    best_epoch: int = -1
    history: list[dict[str, float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0


def train_and_measure(objective: SamplesObjective, test: Sequence[Samples], directory: Path) -> dict[str, Any]:
    """Train, then read test once with the weights of each selection, and leave the module with the selected ones.

    Args:
        objective: what is trained.
        test: samples per dataset.
        directory: for the checkpoint, history.csv and predictions on test.

    Returns:
        Metrics on test and val as rows for the tables, and the best epoch.
    """
    trained, recipe, module = fit(objective, directory), objective.recipe, objective.module
    metrics: list[dict[str, Any]] = []
    predicted = {}
    for selection, weights in trained.weights.items():
        module.load_state_dict(weights)
        network, exported = objective.network(module), objective.exported()
        rows, predicted[selection] = result_rows(network, exported, objective.val, test, selection, recipe.batch_size)
        metrics += rows
    store_predictions(directory, test, predicted)
    module.load_state_dict(trained.weights[recipe.selection])
    return {"metrics": metrics, "best_epoch": trained.best_epoch}


def fit(objective: Objective, directory: Path | None) -> Fit:
    """Train `objective.module` by its recipe, from the last checkpoint if there is one.

    Order, views and dropout of a step depend on seed, epoch and step alone, so that training continued from a
    checkpoint equals training never interrupted. Of several processes only the first returns: the others have
    nothing to do once the weights are there, and end.

    Args:
        objective: what is trained, how and where.
        directory: for the checkpoint and history.csv; None: neither is written.

    Raises:
        UserError: a loss, gradient, weight or state of the optimiser is no longer finite in any of the processes, or
            the device's memory is too small. Nothing that is not finite is returned or written.
        Stopped: the process was asked to stop; the checkpoint is where it stopped.
    """
    try:
        with postponed():
            return _Training(objective, directory).run()
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"out of GPU memory; lower recipe batch_size ({objective.recipe.batch_size}), or raise accumulate"
            f" ({objective.recipe.accumulate}): {error}"
        ) from error


def finish(directory: Path) -> None:
    """Remove the checkpoint of a stage that has stored its results."""
    (directory / CHECKPOINT).unlink(missing_ok=True)


class _Training:
    """One call of `fit`: all that a checkpoint holds, and how it changes."""

    def __init__(self, objective: Objective, directory: Path | None) -> None:
        self.objective, self.directory = objective, directory
        self.fabric, self.recipe = fabric, recipe = objective.fabric, objective.recipe
        self.state = Fit()
        module = share_statistics(objective.module, fabric)
        self.frozen = freeze_norms(module, recipe)
        self.optimizer = make_optimizer(module, recipe, fabric.device)
        self.schedule = make_schedule(
            self.optimizer, recipe, (recipe.schedule_epochs or recipe.epochs) * objective.steps
        )
        compiled: Any = torch.compile(module) if recipe.compile else module
        self.module, self.wrapped = fabric.setup(compiled, self.optimizer)
        self.ema = ModelEmaV3(objective.module, decay=recipe.ema, use_warmup=True) if recipe.ema else None
        self.watch = Watch(fabric, objective.module, self.optimizer, self.ema, scaled=recipe.precision == "16-mixed")
        self.checkpoint = None if directory is None else directory / CHECKPOINT
        self.events = None
        if events_wanted() and fabric.is_global_zero and directory is not None:
            from torch.utils.tensorboard.writer import SummaryWriter

            self.events = SummaryWriter(directory / EVENTS)
        self._saved, self._save_seconds = time.monotonic(), 0.0

    @property
    def trained(self) -> nn.Module:
        """The module whose weights are measured and kept."""
        return self.objective.module if self.ema is None else self.ema.module

    def run(self) -> Fit:
        """Train to the end, or until the process is asked to stop."""
        steps = self.objective.steps
        # After setup: the optimiser's state goes to the device that the parameters are on.
        if self.checkpoint is not None and self.checkpoint.is_file():
            self._restore(self.checkpoint)
            log.info("continuing in epoch %d at step %d of %d", len(self.state.history), len(self.state.losses), steps)
        done = len(self.state.history) * steps + len(self.state.losses)
        self.progress = Progress(self.recipe.epochs * steps, "step", done)
        try:
            while len(self.state.history) < self.recipe.epochs:
                self._run_epoch(len(self.state.history))
        except Stopped as stopped:
            self._save()
            self._end_follower()
            log.info("stopped by %s; the same command goes on from here", stopped.signal)
            raise
        self._end_follower()
        self.state.weights["last"] = _snapshot(self.trained)
        if self.directory is not None:
            _write_history(self.directory / HISTORY, self.state.history)
        return self.state

    def _end_follower(self) -> None:
        """All processes but the first have nothing left to do."""
        if not self.fabric.is_global_zero:
            raise SystemExit(0)

    def _run_epoch(self, epoch: int) -> None:
        state, begun = self.state, time.monotonic() - self.state.seconds
        shown = {"epoch": epoch, **_figures(state.history[-1])} if epoch else {}
        self.module.train()
        for norm in self.frozen:
            norm.eval()
        with closing(self._batches(epoch)) as batches:
            for step in range(len(state.losses), self.objective.steps):
                self._step(batches, epoch, step)
                state.seconds = time.monotonic() - begun
                self.progress.step(figures=shown)
                self._pause(epoch, step)
        self._agree(epoch)
        loss = sum(state.losses) / len(state.losses)
        score = None if self.objective.metric is None else self._validate(epoch)
        seconds = time.monotonic() - begun
        measured = {} if score is None else {f"val_{self.objective.metric}": score}
        state.history.append({"epoch": epoch, "loss": loss} | measured | {"seconds": seconds})
        if score is not None and score > state.best:
            state.best, state.best_epoch = score, epoch
            state.weights["best_val"] = _snapshot(self.trained)
        if self.events is not None:
            for name, value in state.history[-1].items():
                self.events.add_scalar(name, value, epoch + 1)
            self.events.flush()
        state.losses, state.seconds = [], 0.0
        self.progress.show({"epoch": epoch + 1, **_figures(state.history[-1])})

    def _batches(self, epoch: int) -> Generator[tuple[float, Any]]:
        batches = self.objective.batches(epoch, len(self.state.losses))
        return _ahead(batches, self.fabric.device) if self.objective.AHEAD else (each for each in batches)

    def _step(self, batches: Iterator[tuple[float, Any]], epoch: int, step: int) -> None:
        """One step of the optimiser."""
        fabric, recipe = self.fabric, self.recipe
        # Each process has dropout of its own.
        torch.manual_seed(torch_seed("step", self.objective.seed, epoch, step, fabric.global_rank))
        self.wrapped.zero_grad()
        total = torch.zeros((), device=fabric.device)
        for each in range(recipe.accumulate):
            part, batch = next(batches)
            with fabric.no_backward_sync(self.module, enabled=each + 1 < recipe.accumulate):
                loss = self.objective.loss(self.module, batch)
                # Fabric takes the mean of the gradients over the processes, and what is wanted is that over samples.
                fabric.backward(loss * (part * fabric.world_size))
            total = total + part * loss.detach()
        self.watch.note(total)
        if recipe.clip_grad is not None:
            # Gradients that are not finite are skipped by the scaler of 16-mixed, or found by the watch.
            fabric.clip_gradients(self.module, self.wrapped, max_norm=recipe.clip_grad, error_if_nonfinite=False)
        self.wrapped.step()
        self.schedule.step()
        if self.ema is not None:
            self.ema.update(self.objective.module, step=epoch * self.objective.steps + step)

    def _pause(self, epoch: int, step: int) -> None:
        """Stop or write a checkpoint, if it is time; several processes do so at the same step, and together."""
        often = max(CHECKPOINT_EVERY_SECONDS, self._save_seconds / CHECKPOINT_COST)
        due = self.checkpoint is not None and time.monotonic() - self._saved > often
        together = (step + 1) % AGREE_EVERY_STEPS == 0 or step + 1 == self.objective.steps
        if together if self.fabric.world_size > 1 else due or stop_requested():
            stop, save = self._agree(epoch, stop_requested(), due and self.fabric.is_global_zero)
            stop_if_requested()
            if stop:
                raise Stopped(signal.SIGTERM)
            if save:
                self._save()

    def _agree(self, epoch: int, *flags: bool) -> list[bool]:
        """Find with all processes that training is sound; whether any of them raised each of the flags."""
        try:
            losses, raised = self.watch.agree(len(self.state.losses), *flags)
        except DivergedError as error:
            self._end_follower()
            raise self._diverged(error, epoch, error.problem.step) from None
        self.state.losses += losses
        return raised

    def _diverged(self, what: Exception, epoch: int, step: int) -> UserError:
        kept = self.checkpoint is not None and self.checkpoint.is_file()
        before = f"; {self.checkpoint} is from before" if kept else ""
        return UserError(
            f"{what} at epoch {epoch}, step {step}: training diverged; lower recipe lr ({self.recipe.lr:g}), set"
            f" clip_grad, or use another precision than {self.recipe.precision}{before}"
        )

    def _validate(self, epoch: int) -> float:
        """Score of what is trained, measured by the first process; if that ends there, all end."""
        score = -1.0
        failure: UserError | Stopped | None = None
        if self.fabric.is_global_zero:
            try:
                with not_postponed():
                    score = self.objective.validate(self.trained)
            except NotFiniteError as error:
                failure = self._diverged(error, epoch, self.objective.steps - 1)
            except (UserError, Stopped) as error:
                failure = error
        ended = torch.tensor(float(failure is not None), device=self.fabric.device)
        if self.fabric.all_reduce(ended, reduce_op="sum"):
            self._end_follower()
            assert failure is not None
            raise failure
        return score

    def _save(self) -> None:
        """Write a checkpoint of what all agreed on; a kill at any moment leaves the old one or the new one."""
        if not self.fabric.is_global_zero or self.checkpoint is None:
            return
        started = time.monotonic()
        content = {
            "module": self.objective.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.fabric.strategy.precision.state_dict(),
            "ema": None if self.ema is None else self.ema.module.state_dict(),
            "fit": vars(self.state),
            "identity": self.objective.identity,
        }
        with replacing(self.checkpoint) as partial, partial.open("wb") as stream:
            torch.save(content, stream)  # to a stream, since for a path torch does not say why it cannot be written
        self._saved = time.monotonic()
        self._save_seconds = self._saved - started

    def _restore(self, checkpoint: Path) -> None:
        try:
            self._continue_from(torch.load(checkpoint, map_location="cpu", weights_only=True))
        except OSError:
            raise
        except Exception as error:  # torch raises whatever the unpickler meets
            raise UserError(
                f"{checkpoint}: is no checkpoint of this training ({shown(error)}); delete it and run again"
            ) from error

    def _continue_from(self, content: dict[str, Any]) -> None:
        if content["identity"] != self.objective.identity:
            raise ValueError(f"it is of {content['identity']}, not of {self.objective.identity}")
        self.objective.module.load_state_dict(content["module"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.schedule.load_state_dict(content["schedule"])
        self.fabric.strategy.precision.load_state_dict(content["scaler"])
        if self.ema is not None:
            self.ema.module.load_state_dict(content["ema"])
        self.state = Fit(**content["fit"])


def _ahead(items: Iterator[ItemT], device: torch.device) -> Generator[ItemT]:
    """The same items, each made in a thread while the one before is trained on: policies take their time on the CPU."""

    def begin() -> None:
        if device.type == "cuda":
            torch.cuda.set_device(device)

    with ThreadPoolExecutor(1, initializer=begin) as thread:
        coming = thread.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, items, None)
            yield item


def _figures(row: dict[str, float]) -> dict[str, float]:
    return {name.partition("_")[0]: value for name, value in row.items() if name == "loss" or name.startswith("val_")}


def _snapshot(module: nn.Module) -> State:
    return {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}


def _write_history(path: Path, history: list[dict[str, float]]) -> None:
    with replacing(path) as partial, partial.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(history[0]))
        writer.writeheader()
        writer.writerows(history)
