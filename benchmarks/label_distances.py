"""L2D's CD and ID without a loop over sets, against a loop over classes and images.

    python -m benchmarks.label_distances [--small]

Forward and backward, 64 images, 80 classes, embeddings of 768; labels are drawn about as often as those of MS-COCO, 2.9
for an image. The loop takes the embeddings of each set by a mask and their distances from scalar products, as the
authors' code does; both losses must be equal. Memory is how far the peak of one such step in a process of its own is
above what that held before, the gradient (15 MiB) included: on the GPU or, where there is none, in main memory.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.jobs import in_own_process, peak
from benchmarks.rows import Row, main, seconds
from kd.distillers.losses import of_positives, structural_distance
from kd.models.devices import make_fabric

Form = Callable[[Tensor, Tensor, Tensor], Tensor]

MOST_FREQUENT = 0.54  # of MS-COCO's images show a person
PER_IMAGE = 2.9  # labels


@dataclass(frozen=True)
class Sizes:
    """Of a batch of label-wise embeddings, (batch, classes, width)."""

    batch: int = 64
    classes: int = 80
    width: int = 768


def draw(seed: int, sizes: Sizes) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings of student and teacher, (batch, classes, width), and labels, (batch, classes) of 0 and 1.

    Frequencies of classes fall by a factor of 90, but for the most frequent one.
    """
    random = np.random.default_rng(seed)
    shape = (sizes.batch, sizes.classes, sizes.width)
    student, teacher = (torch.from_numpy(random.standard_normal(shape, dtype=np.float32)) for _ in range(2))
    rates = np.geomspace(90, 1, sizes.classes - 1)
    rates *= (PER_IMAGE - MOST_FREQUENT) / rates.sum()
    labels = torch.from_numpy(random.random(shape[:2]) < [MOST_FREQUENT, *rates])
    fabric = make_fabric("32")
    return fabric.to_device(student), fabric.to_device(teacher), fabric.to_device(labels)


def without_loops(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """CD + ID, as students are trained with them."""
    both = {"label_embeddings": student}, {"label_embeddings": teacher}
    own, wanted, instances, classes = of_positives(*both, labels)
    return structural_distance(own, wanted, classes) + structural_distance(own, wanted, instances)


def loop(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """CD + ID, one class and one image after another."""
    total = student.new_zeros(())
    for label in range(labels.shape[1]):
        present = labels[:, label]
        if present.sum() > 1:
            total = total + set_distance(student[:, label][present], teacher[:, label][present])
    for row in range(len(labels)):
        present = labels[row]
        if present.sum() > 1:
            total = total + set_distance(student[row][present], teacher[row][present])
    return total


def set_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Of one set, (n, width) each."""
    with torch.no_grad():
        wanted = relative(teacher)
    return functional.smooth_l1_loss(relative(student), wanted, reduction="sum") / len(student)


def relative(points: Tensor) -> Tensor:
    """(n, n) distances over the mean of those above 0."""
    squares = points.square().sum(dim=1)
    distances = (squares.unsqueeze(1) + squares - 2 * points @ points.T).clamp_min(1e-12).sqrt()
    distances = distances * (1 - torch.eye(len(points), device=points.device))
    return distances / distances[distances > 0].mean()


def step(form: Form, inputs: tuple[Tensor, Tensor, Tensor]) -> float:
    """Forward and backward; the loss."""
    student, teacher, labels = inputs
    student.grad = None
    loss = form(student.requires_grad_(), teacher, labels)
    torch.autograd.backward(loss)
    return loss.item()


def growth(form: Form, sizes: Sizes) -> float:
    """MiB by which the peak of one step is above what is held before it."""
    inputs = draw(0, sizes)
    step(form, draw(1, sizes))  # torch's own buffers
    if not torch.cuda.is_available():
        before, most = peak(lambda: step(form, inputs))
        return most - before
    torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()
    step(form, inputs)
    return (torch.cuda.max_memory_allocated() - held) / 2**20


def measure(*, small: bool = False) -> list[Row]:
    """The ratio over interleaved rounds, each with other values, and what memory grows by."""
    sizes, rounds = (Sizes(batch=32, width=256), 1) if small else (Sizes(), 20)
    grown = {form.__name__: in_own_process(growth, form, sizes) for form in (without_loops, loop)}
    ratios = []
    for seed in range(rounds + 1):
        inputs = draw(seed, sizes)
        losses = [step(form, inputs) for form in (without_loops, loop)]
        if not math.isclose(*losses, rel_tol=1e-4):
            raise ValueError(f"losses without and with a loop differ: {losses}")
        fast, slow = (seconds(functools.partial(step, form, inputs)) for form in (without_loops, loop))
        if seed:  # the first round warms up
            ratios.append(slow / fast)
    what = f"L2D's CD and ID without a loop, {sizes.batch} x {sizes.classes} embeddings of {sizes.width}"
    return [
        Row(f"{what}: steps per second", "a loop over classes and images", ratios),
        Row(f"{what}: growth of memory in a step", "", [grown["without_loops"]], "MiB"),
        Row("the same, with a loop: growth of memory in a step", "", [grown["loop"]], "MiB"),
    ]


if __name__ == "__main__":
    main(measure)
