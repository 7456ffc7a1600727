"""mixup and cutmix of a batch: every sample is mixed with a partner, images and losses in the same proportion.

The partner of a sample is the one at its place in the reversed batch, `tensor.flip(0)`, and all samples of a
batch share one coefficient (as timm's Mixup does in its mode `batch`).

Targets are never mixed, losses are: c L(output, own targets) + (1 - c) L(output, partner's targets). For a
cross-entropy this equals the loss with mixed probabilities. For a squared error it differs from the loss with
mixed targets by a constant, so the gradient is the same. So it works for any distiller.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from kd.common.streams import generator


@dataclass(frozen=True)
class Mix:
    """How the samples of one batch are mixed with their partners.

    Attributes:
        coefficient: weight of a sample itself, 0..1; that of its partner is 1 - coefficient.
        box: rows top..bottom and columns left..right that show the partner, as (top, bottom, left, right), ends
            excluded; None: all pixels are blended.
    """

    coefficient: float
    box: tuple[int, int, int, int] | None = None


def draw_mix(mixup: float, cutmix: float, image_size: tuple[int, int], seed: int, epoch: int, step: int) -> Mix:
    """Draw how a batch is mixed: a pure function of its arguments.

    mixup: Zhang et al., "mixup: beyond empirical risk minimization", ICLR 2018. cutmix: Yun et al., "CutMix:
    regularization strategy to train strong classifiers with localizable features", ICCV 2019.

    Args:
        mixup: alpha of the coefficient's distribution Beta(alpha, alpha) when blending; 0: never blend.
        cutmix: the same when a box is pasted; 0: never paste. One of both is on; where both are, each is drawn half
            the time.
        image_size: height and width of the images that will be mixed.
        seed: of the run.
        epoch: from 0.
        step: of the epoch, from 0.
    """
    random = generator("mixing", seed, epoch, step)
    pastes = random.random() < (0.5 if mixup and cutmix else float(cutmix > 0))
    alpha = cutmix if pastes else mixup
    coefficient = float(random.beta(alpha, alpha))
    return _paste(coefficient, image_size, random) if pastes else Mix(coefficient)


def _paste(coefficient: float, image_size: tuple[int, int], random: np.random.Generator) -> Mix:
    """A box with its centre anywhere; what is outside the image is cut off, and the coefficient follows the rest."""
    height, width = image_size
    rows, columns = (int(edge * math.sqrt(1 - coefficient)) for edge in image_size)
    row, column = int(random.integers(height)), int(random.integers(width))
    top, bottom = max(0, row - rows // 2), min(height, row + (rows + 1) // 2)
    left, right = max(0, column - columns // 2), min(width, column + (columns + 1) // 2)
    area = (bottom - top) * (right - left)
    return Mix(1 - area / (height * width), (top, bottom, left, right))


def mix_images(images: Tensor, partners: Tensor, mix: Mix) -> Tensor:
    """Mix each image with its partner.

    Args:
        images: (B, ..., H, W) float.
        partners: (B, ..., H, W) float, the image of each one's partner.
        mix: how; its box was drawn for (H, W).

    Returns:
        (B, ..., H, W), a new tensor.
    """
    if mix.box is None:
        return mix.coefficient * images + (1 - mix.coefficient) * partners
    top, bottom, left, right = mix.box
    mixed = images.clone()
    mixed[..., top:bottom, left:right] = partners[..., top:bottom, left:right]
    return mixed


def mixed_loss(own: Tensor, partner: Tensor, mix: Mix) -> Tensor:
    """Loss of a mixed batch.

    Args:
        own: scalar loss of the module's output for the mixed images with each sample's own targets and labels.
        partner: scalar loss of the same output with the targets and labels of each sample's partner.
        mix: how the images were mixed.
    """
    return mix.coefficient * own + (1 - mix.coefficient) * partner
