"""What tests share: small packed datasets made from real digits, and the tiny config."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from kd.artefacts.job import Job
from kd.config.load import load_config
from kd.data.modalities.image import Samples
from kd.data.options import SplitOptions
from kd.data.packing import pack
from kd.data.sources import digits
from kd.data.splits import assign_splits
from kd.jobs.run import run_job
from kd.planning.plan import Plan
from kd.stages.registry import STAGES

ROOT = Path(__file__).parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, so that of several processes none waits for another one in the end."""
    items.sort(key=lambda item: "workflow" not in item.path.parts)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def tiny() -> dict[str, Any]:
    """The tiny config as a mapping, free to be changed."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "tests" / "tiny.yaml").read_text())
    return config


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packed dataset of 60 + 20 + 20 real digits, 32 px."""
    return pack_digits(tmp_path_factory.mktemp("dataset"), "digits", SplitOptions(train=60, val=20, test=20))


@pytest.fixture(scope="session")
def other_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Other digits under another name."""
    options = SplitOptions(train=40, val=20, test=20, seed=1)
    return pack_digits(tmp_path_factory.mktemp("other"), "other", options)


def pack_digits(
    directory: Path, name: str, split: SplitOptions, image_size: tuple[int, int] = (32, 32), channels: int = 1
) -> Path:
    """Pack real digits; also for benchmarks."""
    samples = digits.read(digits.Options()).samples
    labels = np.array([int(sample.labels[0]) for sample in samples])
    codes, _ = assign_splits(labels, [None] * len(samples), split)
    classes = [str(digit) for digit in range(10)]
    pack(
        directory,
        name,
        samples,
        codes,
        classes,
        task="single_label",
        modality=Samples(image_size=image_size),
        channels=channels,
    )
    return directory


@pytest.fixture
def many_layouts() -> dict[str, Any]:
    """A config whose stores have every precision and resolution, free to be changed."""
    return read_many_layouts()


def read_many_layouts() -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((ROOT / "tests" / "many_layouts.yaml").read_text())
    return config


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plan]:
    """All of `many_layouts`, made, in chunks of 16 rows at most."""
    torch.set_num_threads(1)  # as in tests: made again, it is the same to the last bit
    results = tmp_path_factory.mktemp("finished") / "results"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kd.data.storage.CHUNK_ROWS", 16)
        plan = Plan(load_config(read_many_layouts() | {"results": str(results)}))
        for job in plan.jobs.values():
            make(job)
        yield plan


def make(job: Job) -> None:
    """Run the stage of a job in this process."""
    stage = STAGES[job.stage]
    run_job(job, stage.spec.model_validate(job.spec), stage.module.build, stage.unread, follows=stage.follows)
