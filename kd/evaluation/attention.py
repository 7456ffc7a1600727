"""Where a network looks for each class: LayerCAM maps of its last stage, and a figure of them.

Jiang et al., "LayerCAM: exploring hierarchical class activation maps for localization", IEEE TIP 2021; drawn as in the
supplement of L2D, with the same library.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torchcam.methods import LayerCAM

from kd.config import AttentionConfig
from kd.data.packed import open_split
from kd.evaluation.lettering import LONGEST_AT_PANEL, legible, write_title
from kd.jobs.errors import UserError
from kd.models.weights import load_network
from kd.plan import Plan
from kd.reports import attended_rows


class _Watched(nn.Module):
    """Class scores of one dataset; the last map goes through a module that LayerCAM can watch."""

    def __init__(self, network: nn.Module, dataset: str) -> None:
        super().__init__()
        self.network, self.dataset, self.map = network, dataset, nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        features = self.network(images, ("L2",))
        self.map(features.maps["L2"])
        scores: Tensor = features.logits[self.dataset]
        return scores


def class_maps(network: nn.Module, dataset: str, images: Tensor, classes: Sequence[int]) -> Tensor:
    """What speaks for each class, place by place: (B, len(classes), h, w) float32 in 0..1, on the CPU.

        map = ReLU(sum_k ReLU(dY / dA_k) A_k)

    with the logit Y of the class and the channels A_k of the last map (level L2), and of each map the minimum taken
    away and the maximum made 1. It is 0 all over where nothing speaks for the class.

    Args:
        network: a `kd.models.network.Network`, frozen or not; it is in its former mode afterwards.
        dataset: whose classes are meant.
        images: (B, 3, H, W) float RGB in 0..1, on the network's device.
        classes: ids of classes.

    Raises:
        UserError: the scores are not computed from the map itself, as in transformers without a label-wise encoder:
            their maps are copies in another layout.
    """
    training = network.training
    network.eval()
    watched = _Watched(network, dataset)
    try:
        with torch.enable_grad(), LayerCAM(watched, watched.map) as maps:
            scores = watched(images.detach().requires_grad_())
            found = [maps(each, scores, normalized=False, retain_graph=True)[0] for each in classes]
    except RuntimeError as error:
        if "not connected" not in str(error):
            raise
        raise UserError(f"attention: the scores for {dataset} are not computed from the network's map L2") from error
    finally:
        network.train(training)
    return _in_unit_range(torch.stack(found, dim=1).float().cpu())


def _in_unit_range(maps: Tensor) -> Tensor:
    """Each map from 0 to 1, however small its gradients were; a constant one is 0."""
    low, high = maps.amin(dim=(2, 3), keepdim=True), maps.amax(dim=(2, 3), keepdim=True)
    return (maps - low) / torch.where(high > low, high - low, 1)


def students_attention(plan: Plan, options: AttentionConfig) -> Figure:
    """Maps of the students of the first seed, for each of some classes on a test picture that has it.

    Pictures are chosen by their labels alone: the first one that has the class and, if there is one, others too.

    Raises:
        UserError: as `class_maps`.
    """
    rows = attended_rows(plan.config, options, plan.rows)
    job = next(job for job in plan.stage("prepare_dataset") if job.name == options.dataset)
    split = open_split(job.directory, "test")
    labels = split.labels if split.labels.ndim == 2 else np.eye(len(split.info.classes), dtype=int)[split.labels]
    chosen = [number for number in range(labels.shape[1]) if labels[:, number].any()][: options.classes]
    # Most labels first, up to three: with more, a picture is crowded.
    shown = [max(np.flatnonzero(labels[:, number]), key=lambda row: min(labels[row].sum(), 3)) for number in chosen]
    pixels = np.concatenate([split.images.read(slice(row, row + 1)) for row in shown])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).expand(-1, 3, -1, -1).float() / 255
    maps = {}
    for row, student in rows.items():
        found = class_maps(load_network(student.directory), options.dataset, images, chosen)
        maps[row] = torch.stack([found[place, place] for place in range(len(chosen))]).numpy()
    names = [split.info.classes[number] for number in chosen]
    return attention_figure(images.permute(0, 2, 3, 1).numpy(), maps, names, plan.config.reports.title)


def attention_figure(
    pictures: np.ndarray, maps: Mapping[str, np.ndarray], classes: Sequence[str], title: str
) -> Figure:
    """A row for each class: a picture that has it, and for each method the map of the class over the picture.

    Args:
        pictures: (classes, H, W, 3) RGB, uint8 or float in 0..1.
        maps: method -> (classes, h, w) in 0..1, in the order wanted; they are stretched over the pictures.
        classes: names.
        title: heading.
    """
    figure = Figure(figsize=(1.6 * (1 + len(maps)) + 0.8, 1.6 * len(classes) + 0.7), layout="constrained")
    axes = figure.subplots(len(classes), 1 + len(maps), squeeze=False)
    height, width = pictures.shape[1:3]
    for column, name in enumerate(["picture", *maps]):
        axes[0, column].set_title(name.replace("_", " "), fontsize=9)
        for row, picture in enumerate(pictures):
            axis = axes[row, column]
            axis.imshow(picture, extent=(0, width, height, 0))
            if column:
                heat = maps[name][row]
                axis.imshow(
                    heat, cmap="jet", alpha=0.5, vmin=0, vmax=1, extent=(0, width, height, 0), interpolation="bilinear"
                )
            axis.set(xticks=[], yticks=[])
    for row, name in enumerate(classes):
        axes[row, 0].set_ylabel(legible(name, LONGEST_AT_PANEL), fontsize=9)
    write_title(figure, title)
    return figure
