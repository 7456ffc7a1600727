"""Building a cache of augmented views, against the bare forward pass and against one image and file at a time.

    python -m benchmarks.build_cache [--small]

The bare forward pass takes float images that are in memory already, in batches of the same size, and throws
its results away: once with the teacher in torch's own memory format, once in channels_last, as our networks are.
One at a time: a float32 .npy file for each image and level, as the authors of MLFD store them, in torch's own
memory format, too, and without augmentation. L1 and L2 of every image are taken; our views are crops, rotations and
contrast.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.jobs import OTHERS, job_of, make_plan, make_stages, noise_dataset, seconds_of, untrained_weights
from benchmarks.rows import Row, main, seconds
from kd.embeddings.computing import BATCH
from kd.models.devices import make_fabric
from kd.models.network import Network, freeze
from kd.models.weights import load_network

LEVELS = ("L1", "L2")


def config(folder: Path, architecture: str, size: int, images: int, views: int) -> dict[str, Any]:
    """One teacher, and joint teachers that want both levels cached."""
    return {
        "datasets": {"noise": noise_dataset(folder / "images", images, size)},
        "models": {
            "teacher": {
                "architecture": architecture,
                "weights": untrained_weights(folder / "teacher.pt", architecture),
            }
        },
        "augmentations": {"shake": {"crop": [0.6, 1.0], "rotation": 15, "flip": 0.5, "contrast": 0.3}},
        "recipes": {"fusion": {"lr": 0.001, "epochs": 1, "batch_size": 64, "augmentation": "shake"}},
        "teachers": {"teacher": {"dataset": "noise", "model": "teacher", "recipe": None}},
        "joint_teachers": {level: {"level": level, "views": views, "recipe": "fusion"} for level in LEVELS},
    }


def forward(network: Network, images: torch.Tensor) -> None:
    """Batches of images that are in memory."""
    with torch.inference_mode():
        for start in range(0, len(images), BATCH):
            network(images[start : start + BATCH], LEVELS)


def one_at_a_time(network: Network, images: torch.Tensor) -> None:
    """A batch of one and a .npy file per level, for each image."""
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        for row in range(len(images)):
            features = network(images[row : row + 1], LEVELS)
            for level in LEVELS:
                np.save(f"{folder}/{level}_{row}.npy", features.arrays("noise")[level][0].cpu().numpy())


def case(architecture: str, size: int, images: int, views: int, rounds: int) -> list[Row]:
    """Images per second of a build, in units of each reference; rounds are interleaved."""
    with tempfile.TemporaryDirectory() as name:
        plan = make_plan(Path(name), config(Path(name), architecture, size, images, views))
        make_stages(plan, "prepare_dataset", "train_teacher")
        build = job_of(plan, "cache_embeddings", "teacher")
        fabric = make_fabric("32")
        network = freeze(load_network(plan.stage("train_teacher")[0].directory)).to(fabric.device)
        plain = copy.deepcopy(network).to(memory_format=torch.contiguous_format)
        inputs = fabric.to_device(torch.rand(images, 3, size, size))
        few = inputs[: max(1, images // 8)]
        references: dict[str, tuple[int, Callable[[], None]]] = {
            "the bare forward pass, in torch's own memory format": (len(inputs), lambda: forward(plain, inputs)),
            "the bare forward pass, in channels_last as our networks": (len(inputs), lambda: forward(network, inputs)),
            "one image and one float32 `.npy` at a time": (len(few), lambda: one_at_a_time(plain, few)),
        }
        ratios: dict[str, list[float]] = {reference: [] for reference in references}
        seconds_of(build)  # warms up
        for _ in range(rounds):
            ours = (images * views + 2 * OTHERS) / seconds_of(build)
            for reference, (count, run) in references.items():
                ratios[reference].append(ours * seconds(run) / count)
    what = f"images per second while a cache is built: {architecture} at {size} px"
    return [Row(what, reference, values) for reference, values in ratios.items()]


def measure(*, small: bool = False) -> list[Row]:
    """Ratios of both networks to each reference."""
    if small:
        return case("test_resnet", 32, images=32, views=2, rounds=1)
    large = case("resnet18", 64, images=1500, views=6, rounds=3)
    return large + case("test_resnet", 32, images=1500, views=20, rounds=3)


if __name__ == "__main__":
    main(measure)
