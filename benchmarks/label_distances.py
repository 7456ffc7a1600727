"""L2D's CD and ID without a loop over sets, against a loop over classes and instances.

    python -m benchmarks.label_distances [--rounds 20]

Forward and backward on one thread of the CPU: 64 samples, 80 classes, embeddings of 768; labels are drawn about as
often as those of MS-COCO, 2.9 for a sample. The loop takes the embeddings of each set by a mask and their distances
from scalar products, as the authors' code does. Memory is how far the peak of one such step in a process of its own is
above what that held before, the gradient (15 MiB) included; it is read from /proc, so on Linux only.
"""

from __future__ import annotations

import argparse
import ctypes
import multiprocessing
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from kd.distillers.losses import of_positives, structural_distance
from kd.models.outputs import Outputs

BATCH, CLASSES, WIDTH = 64, 80, 768
MOST_FREQUENT = 0.54  # of MS-COCO's images show a person
PER_IMAGE = 2.9  # labels


def draw_labels(random: np.random.Generator) -> Tensor:
    """(BATCH, CLASSES) of 0 and 1; frequencies of classes fall by a factor of 90, but for the most frequent one."""
    rates = np.geomspace(90, 1, CLASSES - 1)
    rates *= (PER_IMAGE - MOST_FREQUENT) / rates.sum()
    return torch.from_numpy(random.random((BATCH, CLASSES)) < [MOST_FREQUENT, *rates])


def draw_embeddings(random: np.random.Generator) -> Tensor:
    """(BATCH, CLASSES, WIDTH)."""
    return torch.from_numpy(random.standard_normal((BATCH, CLASSES, WIDTH), dtype=np.float32))


def ours(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """CD + ID."""
    both = Outputs(label_embeddings=student), Outputs(label_embeddings=teacher)
    own, wanted, instances, classes = of_positives(*both, labels)
    return structural_distance(own, wanted, classes) + structural_distance(own, wanted, instances)


def loop(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """CD + ID."""
    total = torch.zeros(())
    for label in range(CLASSES):
        present = labels[:, label]
        if present.sum() > 1:
            total = total + set_distance(student[:, label][present], teacher[:, label][present])
    for row in range(BATCH):
        present = labels[row]
        if present.sum() > 1:
            total = total + set_distance(student[row][present], teacher[row][present])
    return total


def set_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Of one set, (n, WIDTH) each."""
    with torch.no_grad():
        wanted = relative(teacher)
    return functional.smooth_l1_loss(relative(student), wanted, reduction="sum") / len(student)


def relative(points: Tensor) -> Tensor:
    """(n, n) distances over the mean of those above 0."""
    squares = points.square().sum(dim=1)
    distances = (squares.unsqueeze(1) + squares - 2 * points @ points.T).clamp_min(1e-12).sqrt()
    distances = distances * (1 - torch.eye(len(points)))
    return distances / distances[distances > 0].mean()


def step(form: Callable[[Tensor, Tensor, Tensor], Tensor], inputs: tuple[Tensor, Tensor, Tensor]) -> float:
    """Forward and backward; the loss."""
    student, teacher, labels = inputs
    student.grad = None
    loss = form(student.requires_grad_(), teacher, labels)
    torch.autograd.backward(loss)
    return loss.item()


def draw(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings of student and teacher, and labels."""
    random = np.random.default_rng(seed)
    return draw_embeddings(random), draw_embeddings(random), draw_labels(random)


def growth(form: Callable[[Tensor, Tensor, Tensor], Tensor]) -> float:
    """MiB by which the peak of one step is above what this process holds before it."""
    torch.set_num_threads(1)
    inputs = draw(0)
    step(form, draw(1))  # torch's own buffers
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    before = resident("VmRSS")
    step(form, inputs)
    return resident("VmHWM") - before


def resident(what: str) -> float:
    """MiB of this process: VmRSS now, VmHWM at its peak."""
    (line,) = [each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith(what)]
    return int(line.split()[1]) / 1024


def main() -> None:
    """Print medians over interleaved rounds, each with other values, and what memory grows by."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="(default: 20)")
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    forms = {"ours": ours, "loop": loop}
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    labels, differences = [], []
    for seed in range(rounds + 1):
        inputs = draw(seed)
        labels.append(inputs[2].sum().item() / BATCH)
        losses = []
        for name, form in forms.items():
            started = time.perf_counter()
            losses.append(step(form, inputs))
            if seed:  # the first round warms up
                seconds[name].append(time.perf_counter() - started)
        differences.append(abs(losses[0] / losses[1] - 1))
    for name, each in seconds.items():
        print(f"{name}: {1000 * statistics.median(each):.1f} ms")
    ratios = [slow / fast for fast, slow in zip(*seconds.values(), strict=True)]
    print(f"loop / ours: {statistics.median(ratios):.1f} (least: {min(ratios):.1f})")
    print(f"labels for a sample: {statistics.mean(labels):.2f}; losses differ by {max(differences):.1e} at most")
    for name, form in forms.items():
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            print(f"{name}: memory grows by {pool.apply(growth, (form,)):.0f} MiB")


if __name__ == "__main__":
    main()
