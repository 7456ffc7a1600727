"""The training loop: it goes on where it stopped, stops when it is asked to, and computes batches in parts."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kd.common.errors import UserError
from kd.jobs import stopping
from kd.jobs.stopping import Stopped
from kd.models.spec import ModelSpec
from kd.models.weights import load_network
from kd.training import loop
from kd.training.predictions import predictions_file
from kd.training.recipe import Recipe
from kd.training.supervised import Classification, train_network
from tests.training.chain import (
    MODEL,
    RECIPE,
    SHAKE,
    KilledError,
    checkpoint_each_step,
    die_after,
    folder,
    joint,
    losses,
    of_joint,
    same_weights,
    student,
)

# All that has a state or draws random numbers.
BUSY = Recipe(lr=3e-3, epochs=4, batch_size=8, augmentation=SHAKE, ema=0.9, mixup=0.2, cutmix=0.5, clip_grad=1.0)
WITHOUT_BATCH_NORM = ModelSpec(architecture="test_convnext", latent_dim=16)
Train = Callable[[Path], object]


@pytest.fixture
def trainings(tmp_path: Path, dataset: Path, stores: dict[tuple[str, str], Path]) -> dict[str, tuple[Train, str]]:
    """Each kind of training, and the file with its weights."""
    own = [stores["digits", "digits"], stores["other", "digits"]]
    model = MODEL.model_copy(update={"kwargs": {"drop_rate": 0.2, "drop_path_rate": 0.2}})
    fused = joint(tmp_path / "joint", [dataset], [own], "L2")
    source = of_joint(tmp_path / "targets", dataset, fused, own, "L2")
    # The images of a joint teacher are the embeddings.
    recipe = BUSY.model_copy(update={"mixup": 0.0, "cutmix": 0.0})
    return {
        "teacher": (lambda path: train_network(folder(path), [dataset], model, BUSY, 0), "network.safetensors"),
        "joint_teacher": (lambda path: joint(path, [dataset], [own], "L2", recipe=recipe), "joint.safetensors"),
        "student": (lambda path: student(path, dataset, source, model=model, recipe=BUSY), "network.safetensors"),
    }


@pytest.mark.parametrize("kind", ["teacher", "joint_teacher", "student"])
def test_fit__continues_bit_identically_after_any_step(
    tmp_path: Path, trainings: dict[str, tuple[Train, str]], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    train, weights = trainings[kind]
    kept: list[Path] = []
    with monkeypatch.context() as patched:

        def keep(training: Any) -> None:
            kept.append(tmp_path / "kept" / f"{len(kept)}.pt")
            shutil.copy(training.checkpoint, kept[-1])

        folder(tmp_path / "kept")
        checkpoint_each_step(patched, keep)
        train(tmp_path / "whole")
    steps = len(kept) // BUSY.epochs
    assert steps >= 4
    # Within epochs, at the end of one, and at the very end.
    for number in {steps - 1, len(kept) - 1, *np.random.default_rng(0).choice(len(kept), 6, replace=False).tolist()}:
        shutil.rmtree(tmp_path / "cut", ignore_errors=True)
        shutil.copy(kept[number], folder(tmp_path / "cut") / loop.CHECKPOINT)
        train(tmp_path / "cut")
        assert same_weights(tmp_path / "whole" / weights, tmp_path / "cut" / weights), number
        assert losses(tmp_path / "whole") == losses(tmp_path / "cut"), number
        whole, cut = (predictions_file(tmp_path / name, "digits").read_bytes() for name in ("whole", "cut"))
        assert whole == cut, number


def test_fit__a_kill_leaves_the_last_checkpoint(tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    die_after(5, monkeypatch)
    with pytest.raises(KilledError):
        train_network(folder(tmp_path / "a"), [dataset], MODEL, RECIPE, 0)
    assert not (tmp_path / "a/network.safetensors").exists()
    assert (tmp_path / "a" / loop.CHECKPOINT).exists()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process answers to SIGTERM as a stage does."""
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    monkeypatch.setattr(stopping, "_request", stopping._Request())
    stopping.listen()
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize(("method", "call"), [("loss", 7), ("validate", 2)])
def test_fit__stops_when_asked_and_goes_on_bit_identically(
    tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch, method: str, call: int
) -> None:
    train_network(folder(tmp_path / "whole"), [dataset], MODEL, RECIPE, 0)
    calls: list[None] = []
    original = getattr(Classification, method)

    def ask(task: Classification, *arguments: Any) -> Any:
        calls.append(None)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(task, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Classification, method, ask)
        with pytest.raises(Stopped) as stopped:
            train_network(folder(tmp_path / "cut"), [dataset], MODEL, RECIPE, 0)
        assert stopped.value.code == 143
        assert len(calls) == call
    state = torch.load(tmp_path / "cut" / loop.CHECKPOINT, weights_only=True)["fit"]
    assert state["losses"]
    monkeypatch.setattr(stopping, "_request", stopping._Request())
    train_network(folder(tmp_path / "cut"), [dataset], MODEL, RECIPE, 0)
    assert same_weights(tmp_path / "whole/network.safetensors", tmp_path / "cut/network.safetensors")


def test_fit__passes_give_the_step_of_the_whole_batch(tmp_path: Path, dataset: Path, other_dataset: Path) -> None:
    recipe = Recipe(
        optimizer="sgd", lr=0.05, epochs=2, batch_size=16, augmentation=SHAKE, mixup=0.5, schedule="constant"
    )
    trained = {}
    for passes in (1, 2, 3):
        parts = recipe.model_copy(update={"accumulate": passes})
        directory = folder(tmp_path / str(passes))
        train_network(directory, [dataset, other_dataset], WITHOUT_BATCH_NORM, parts, 0)
        trained[passes] = load_file(directory / "network.safetensors")
    for passes in (2, 3):
        for name, value in trained[1].items():
            torch.testing.assert_close(trained[passes][name], value, rtol=1e-4, atol=1e-6)


def test_fit__event_files(tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KD_TENSORBOARD", "1")
    train_network(folder(tmp_path / "a"), [dataset], MODEL, RECIPE, 0)
    reader = EventAccumulator(str(tmp_path / "a" / loop.EVENTS))
    reader.Reload()
    written = [event.value for event in reader.Scalars("loss")]
    assert written == pytest.approx(losses(tmp_path / "a"))
    assert [event.step for event in reader.Scalars("val_acc@1")] == list(range(1, RECIPE.epochs + 1))


def test_fit__the_moving_average_is_what_is_measured_and_kept(tmp_path: Path, dataset: Path) -> None:
    recipe = RECIPE.model_copy(update={"selection": "last"})
    plain = folder(tmp_path / "plain")
    train_network(plain, [dataset], MODEL, recipe, 0)
    averaged = folder(tmp_path / "averaged")
    train_network(averaged, [dataset], MODEL, recipe.model_copy(update={"ema": 0.9}), 0)
    assert losses(plain) == losses(averaged)  # the average takes no part in training
    assert not same_weights(plain / "network.safetensors", averaged / "network.safetensors")


def test_fit__diverged_loss_is_a_user_error(tmp_path: Path, dataset: Path) -> None:
    recipe = RECIPE.model_copy(update={"lr": 1e12, "optimizer": "sgd", "schedule": "constant"})
    with pytest.raises(UserError, match=r"loss is (nan|inf) at epoch \d+, step \d+: .* lower recipe lr"):
        train_network(folder(tmp_path / "a"), [dataset], MODEL, recipe, 0)
    assert not (tmp_path / "a/network.safetensors").exists()


def test_fit__compiled_is_the_same_training(tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to rounding; and what is stored has the names of the network. torch's compiler itself would take minutes."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    model = ModelSpec(architecture="test_vit", kwargs={"depth": 1})
    recipe = RECIPE.model_copy(update={"epochs": 2, "optimizer": "sgd", "lr": 0.01})
    train_network(folder(tmp_path / "plain"), [dataset], model, recipe, 0)
    compiled = recipe.model_copy(update={"compile": True})
    train_network(folder(tmp_path / "compiled"), [dataset], model, compiled, 0)
    assert losses(tmp_path / "compiled") == pytest.approx(losses(tmp_path / "plain"), rel=1e-3)
    load_network(tmp_path / "compiled")


def test_fit__bf16_trains(tmp_path: Path, dataset: Path) -> None:
    recipe = RECIPE.model_copy(update={"precision": "bf16-mixed"})
    train_network(folder(tmp_path / "a"), [dataset], MODEL, recipe, 0)
    curve = losses(tmp_path / "a")
    assert curve[-1] < curve[0]


class Harmful:
    """What a pickle would run when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("content", ["pickle", "text", "another training's", "number"])
def test_fit__a_checkpoint_that_is_none_of_this_training(tmp_path: Path, dataset: Path, content: str) -> None:
    """One line says so, and nothing in it is run."""
    path = folder(tmp_path / "teacher") / loop.CHECKPOINT
    if content == "pickle":
        torch.save({"module": Harmful(tmp_path / "harm")}, path)
    elif content == "text":
        path.write_text("no checkpoint")
    else:
        torch.save({"module": {"weight": torch.zeros(1)}} if content.startswith("another") else 5, path)
    with pytest.raises(UserError, match="is no checkpoint of this training") as caught:
        train_network(path.parent, [dataset], MODEL, RECIPE, 0)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert not (tmp_path / "harm").exists()
