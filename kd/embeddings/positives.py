"""Label-wise embeddings of the labels that a sample has, and of no others: the losses read no others.

(B, classes, d) is kept as (B, most, d), where `most` is the largest number of labels of any sample of the dataset:
those of a sample's labels in the order of the classes, and then zeros.
"""

from __future__ import annotations

import torch
from torch import Tensor


def pack_positives(embeddings: Tensor, labels: Tensor, most: int) -> Tensor:
    """(B, classes, d) floats and (B, classes) of 0 and 1 to (B, most, d)."""
    places, present = _places(labels, most)
    return embeddings.gather(1, places[..., None].expand(-1, -1, embeddings.shape[2])) * present[..., None]


def unpack_positives(packed: Tensor, labels: Tensor) -> Tensor:
    """(B, most, d) and (B, classes) of 0 and 1 to (B, classes, d), 0 for labels that a sample does not have."""
    places, present = _places(labels, packed.shape[1])
    whole = packed.new_zeros(*labels.shape, packed.shape[2])
    return whole.scatter_add(1, places[..., None].expand_as(packed), packed * present[..., None])


def _places(labels: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """(B, most) classes, those of the sample first, in their order; and whether each is one."""
    order = torch.argsort(labels, dim=1, descending=True, stable=True)[:, :most]
    return order, labels.gather(1, order) > 0
