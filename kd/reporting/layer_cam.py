"""Where a network looks for each class: LayerCAM maps of its last stage.

Jiang et al., "LayerCAM: exploring hierarchical class activation maps for localization", IEEE TIP 2021.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchcam.methods import LayerCAM

from kd.common.errors import UserError


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
    """Evidence for each class, place by place: (B, len(classes), h, w) float32 in 0..1, on the CPU.

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
