"""One training shared by two processes, on the CPU: the weights are those of one process."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file

from kd.artefacts.job import Job
from kd.artefacts.lock import WRITER
from kd.config.load import load_config
from kd.jobs.handover import hand_over, job_file
from kd.models import devices
from kd.planning.plan import Plan
from kd.training.loop import CHECKPOINT
from tests.conftest import make
from tests.training.pair import in_two_processes

# SGD without batch norm and dropout: Adam would turn rounding into steps, and the others depend on the parts.
NETWORK = {
    "optimizer": "sgd",
    "lr": 0.05,
    "epochs": 2,
    "batch_size": 16,
    "augmentation": "shake",
    "selection": "last",
    "schedule": "constant",
}
WEIGHTS = {
    "digits": "network.safetensors",
    "joint": "joint.safetensors",
    "mlfd": "network.safetensors",
    "crd": "network.safetensors",  # compares samples, trains something beside the student, remembers samples
    "scenes": "network.safetensors",  # multi-label: no logit sees the norm of the pooled features
    "l2d": "network.safetensors",  # sums over the whole batch
}
TRAININGS = ("train_teacher", "train_joint_teacher", "distill_student")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A config whose results one process made."""
    torch.set_num_threads(1)
    config: dict[str, Any] = {
        "results": str(tmp_path_factory.mktemp("alone")),
        "experiment": "processes",
        "seeds": [0],
        "datasets": {
            name: {"source": {"type": name}, "image_size": 32, "split": {"train": 61, "val": 20, "test": 20}}
            for name in ("digits", "mnist5k")
        }
        | {
            "scenes": {
                "source": {"type": "scenes", "size": 32, "train": 40, "val": 8, "test": 8},
                "task": "multi_label",
                "image_size": 32,
            }
        },
        "models": {
            "convnext": {"architecture": "test_convnext", "latent_dim": 16},
            "label_wise": {
                "architecture": "test_convnext",
                "label_encoder": {"width": 16, "heads": 2, "hidden": 16, "dropout": 0},
            },
        },
        "augmentations": {"shake": {"rotation": 10, "translate": 0.1}},
        "recipes": {
            "network": NETWORK | {"mixup": 0.5},
            "unmixed": NETWORK,
            "summed": NETWORK | {"lr": 0.0002, "mixup": 0.5},
            "fusion": NETWORK,
        },
        "teachers": {
            "digits": {"dataset": "digits", "model": "convnext", "recipe": "network"},
            "mnist5k": {"dataset": "mnist5k", "model": "convnext", "recipe": "network"},
            "scenes": {"dataset": "scenes", "model": "label_wise", "recipe": "network"},
        },
        "joint_teachers": {
            "joint": {
                "level": "L1",
                "teachers": ["digits", "mnist5k"],
                "targets": ["digits", "mnist5k"],
                "dropout": 0.0,
                "views": 2,
                "recipe": "fusion",
            }
        },
        "students": {
            "mlfd": {"teacher": "joint", "recipe": "network"},
            "crd": {
                "teacher": "individual",
                "targets": ["digits"],
                "distiller": {"name": "crd", "negatives": 20},
                "recipe": "unmixed",
            },
            "l2d": {
                "teacher": "individual",
                "targets": ["scenes"],
                "distiller": {"name": "l2d", "cd_weight": 10, "id_weight": 10},
                "recipe": "summed",
            },
        },
    }
    for job in Plan(load_config(config)).jobs.values():
        make(job)
    return config


def trainings(config: dict[str, Any]) -> dict[str, Job]:
    """A job of each kind of training."""
    jobs = [job for job in Plan(load_config(config)).jobs.values() if job.stage in TRAININGS]
    return {name: next(job for job in jobs if job.name.split("-")[0] == name) for name in WEIGHTS}


@pytest.fixture
def undone(alone: dict[str, Any], tmp_path: Path) -> dict[str, Job]:
    """A job of each kind of training, to be done again on a copy of the results."""
    shutil.copytree(alone["results"], tmp_path / "results")
    return trainings(alone | {"results": str(tmp_path / "results")})


def start(job: Job) -> subprocess.Popen[str]:
    hand_over(job_file(job), job.model_dump_json())
    command = [sys.executable, "-m", f"kd.stages.{job.stage}", "--job", str(job_file(job)), "--devices", "2"]
    return subprocess.Popen(
        command,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def check_weights(before: Path, after: Path) -> None:
    one, other = load_file(before), load_file(after)
    for tensor, value in one.items():
        assert (other[tensor] - value).norm() <= 1e-5 * value.norm() + 1e-9, tensor  # some are as good as 0


def test_two_processes__started_by_a_command_make_the_weights_of_one(undone: dict[str, Job], tmp_path: Path) -> None:
    job, file = undone["digits"], WEIGHTS["digits"]
    shutil.copy(job.directory / file, tmp_path / file)
    shutil.rmtree(job.directory)
    process = start(job)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert output.count("done in") == 1  # one of them writes
    check_weights(tmp_path / file, job.directory / file)


@pytest.fixture(scope="module")
def again(alone: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Directories of the trainings that two processes made."""
    results = shutil.copytree(alone["results"], tmp_path_factory.mktemp("again") / "results")
    jobs = trainings(alone | {"results": str(results)})
    for job in jobs.values():
        shutil.rmtree(job.directory)

    def work() -> None:
        for job in jobs.values():
            with suppress(SystemExit):  # so the second one ends a training
                make(job)

    in_two_processes(results, work)
    return {name: job.directory for name, job in jobs.items()}


@pytest.mark.parametrize("name", list(WEIGHTS))
def test_two_processes__weights_of_one(alone: dict[str, Any], again: dict[str, Path], name: str) -> None:
    check_weights(trainings(alone)[name].directory / WEIGHTS[name], again[name] / WEIGHTS[name])


@pytest.fixture
def long_training(undone: dict[str, Job], tmp_path: Path) -> tuple[Job, subprocess.Popen[str]]:
    """One that would go on for minutes, in its first epochs."""
    job = undone["digits"]
    spec = job.spec | {"recipe": job.spec["recipe"] | {"epochs": 5000}}
    job = job.model_copy(update={"spec": spec, "directory": tmp_path / "long"})
    process = start(job)
    assert process.stdout is not None
    for line in process.stdout:
        if "val=" in line:
            break
    return job, process


def test_two_processes__stop_together(long_training: tuple[Job, subprocess.Popen[str]]) -> None:
    job, process = long_training
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 143, output
    assert "stopped by SIGTERM" in output
    assert (job.directory / CHECKPOINT).is_file()
    assert not (job.directory / WRITER).exists()


def test_two_processes__followers_do_not_outlive_the_first(long_training: tuple[Job, subprocess.Popen[str]]) -> None:
    _, process = long_training
    process.kill()
    process.communicate(timeout=60)  # ends when no process has this end of the pipe any more


def test_fit__several_gpus_share_the_statistics_of_batch_norm() -> None:
    """Only SyncBatchNorm gives them; it needs CUDA, so here is only shown that it is asked for."""
    for processes, device, expected in ((2, "cuda", True), (1, "cuda", False), (2, "cpu", False)):
        fabric: Any = SimpleNamespace(world_size=processes, device=torch.device(device))
        module = devices.share_statistics(timm.create_model("test_resnet"), fabric)
        found = any(isinstance(each, torch.nn.SyncBatchNorm) for each in module.modules())
        assert found == expected
