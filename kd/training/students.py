"""From a teacher and cached embeddings to a distilled student."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kd.data.packed import read_split
from kd.data.views import Views
from kd.distillers.base import Distiller, DistillerOptions
from kd.models.alignment import AlignedStudent
from kd.models.network import Network, freeze
from kd.models.spec import ModelSpec
from kd.models.targets import IndividualTargets, TargetMaker
from kd.models.weights import export_timm, fold, load_network, new_network, save_network
from kd.training.cached import CachedSamples
from kd.training.classification import ImageSamples, measure_selections, measure_test
from kd.training.distillation import Distillation
from kd.training.fusion import load_joint_teacher
from kd.training.loop import finish, fit, make_fabric
from kd.training.recipe import Recipe


def distill_student(
    directory: Path,
    dataset: Path,
    teacher: Path,
    stores: Sequence[Path],
    *,
    individual: bool,
    levels: tuple[str, ...],
    model: ModelSpec,
    distiller: tuple[Distiller, DistillerOptions],
    views: int,
    recipe: Recipe,
    seed: int,
) -> tuple[dict[str, Any], str]:
    """Train a student on one dataset with soft targets.

    Args:
        directory: gets the student, history.csv and, while it trains, a checkpoint.
        dataset: packed.
        teacher: a joint teacher or, if `individual`, an individual one.
        stores: embeddings of the dataset by each teacher that the targets are made from.
        individual: which of the two.
        levels: that the teacher reads from the stores.
        model: the student.
        distiller: the loss, with its options.
        views: stored views.
        recipe: how the student is trained; its augmentation is that of the stored views.
        seed: of initial weights, order, views and dropout.

    Returns:
        Test metrics with the best epoch, and the name of the device.
    """
    fabric = make_fabric(recipe.precision)
    torch.manual_seed(seed)
    splits = {name: read_split(dataset, name) for name in ("train", "val", "test")}
    info = splits["train"].info
    view_source = Views(info, seed, recipe.augmentation)
    images = {name: ImageSamples(split, view_source, fabric, views) for name, split in splits.items()}
    embeddings = CachedSamples(splits["train"], "train", stores, levels, views, fabric)
    network = new_network(model, [info], statistics=info)
    fold(network, info.name)  # refuses now, not after training, what cannot be exported
    maker = _target_maker(teacher, individual=individual)
    fabric.to_device(maker)
    student = _align(network, info.name, maker, embeddings, distiller)
    task = Distillation(student, maker, images["train"], embeddings, images["val"], distiller, recipe, seed, fabric)
    trained = fit(fabric, task, recipe, seed, directory)
    # Test is read by the very network that is exported, so that the table is what people get.
    metrics = measure_selections(
        trained,
        student,
        recipe.selection,
        lambda kind: measure_test(_Folded(network, info.name), [images["test"]], kind, recipe.batch_size),
    )
    save_network(network, directory)
    export_timm(network, info, directory)
    finish(directory)
    return {"metrics": metrics, "best_epoch": trained.best_epoch}, str(fabric.device)


def _target_maker(teacher: Path, *, individual: bool) -> TargetMaker:
    if individual:
        return freeze(IndividualTargets(load_network(teacher).heads))
    return freeze(load_joint_teacher(teacher))


def _align(
    network: Network,
    dataset: str,
    maker: TargetMaker,
    embeddings: CachedSamples,
    distiller: tuple[Distiller, DistillerOptions],
) -> AlignedStudent:
    """Give the student projectors to the shapes of its targets, learned from one batch of them."""
    method, options = distiller
    rows = torch.arange(1).numpy()
    with torch.no_grad():
        targets = maker.make_targets(embeddings.inputs(rows, 0), dataset)
    shapes = {level: tuple(value.shape[1:]) for level, value in targets.maps.items()}
    return AlignedStudent(
        network,
        dataset,
        shapes if method.uses_maps(options) else {},
        targets.vector.shape[1] if method.uses_vector(options) else None,
    )


class _Folded(nn.Module):
    """A network as it is exported, on images in 0..1."""

    def __init__(self, network: Network, dataset: str) -> None:
        super().__init__()
        self.network, self.plain = network, fold(network, dataset)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.plain(self.network.normalise(images))
        return logits
