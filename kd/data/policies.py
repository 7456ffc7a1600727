"""Augmentation policies of torchvision, replayed for each sample from a number of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from kd.data.options import Augmentation

if TYPE_CHECKING:
    import numpy as np

SEEDS = 2**24  # draws are multiples of its inverse, so that each of them is a whole number of these
RANDOM = (torch.rand, torch.randint)  # all that the policies below draw with


class _DrawFrom(TorchFunctionMode):
    """Within this context, and in this thread alone, torch draws from a given generator.

    torchvision's policies know only torch's global generator. To seed and restore that one would change what
    any other thread draws meanwhile, such as the dropout of a network in training.
    """

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self._generator = generator

    def __torch_function__(
        self, function: Callable[..., Any], types: Iterable[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        if function in RANDOM:
            return function(*args, **(kwargs or {}), generator=self._generator)
        return function(*args, **(kwargs or {}))


class Policy:
    """One of torchvision's policies, with its defaults: nearest pixel, and black where an image ends.

    AutoAugment (Cubuk et al., CVPR 2019), RandAugment (Cubuk et al., NeurIPS 2020), or TrivialAugment, the wide
    one (Müller and Hutter, ICCV 2021).

    Args:
        options: `policy` must be given.
    """

    def __init__(self, options: Augmentation) -> None:
        self._transform = _make_transform(options)

    def __call__(self, images: Tensor, draws: np.ndarray) -> Tensor:
        """Apply the policy to each image, on the CPU.

        Args:
            images: (B, H, W, C) uint8, C is 1 or 3, on any device.
            draws: (B,) float32, a uniform number for each image: all that its pixels then depend on.

        Returns:
            (B, H, W, 3) uint8 RGB, where the images were.
        """
        changed = images.cpu().permute(0, 3, 1, 2).expand(-1, 3, -1, -1).contiguous()
        generator = torch.Generator()
        with _DrawFrom(generator):
            for row, draw in enumerate(draws):
                generator.manual_seed(int(draw * SEEDS))
                changed[row] = self._transform(changed[row])
        return changed.permute(0, 2, 3, 1).to(images.device)


def _make_transform(options: Augmentation) -> Callable[[Tensor], Tensor]:
    """The policy as a function of one (3, H, W) uint8 image."""
    from torchvision.transforms import v2

    transform: Callable[[Tensor], Tensor]
    if options.policy == "randaugment":
        transform = v2.RandAugment(options.operations, options.magnitude)
    elif options.policy == "trivialaugment":
        transform = v2.TrivialAugmentWide()
    else:
        assert options.policy is not None
        transform = v2.AutoAugment(v2.AutoAugmentPolicy(options.policy.removeprefix("autoaugment_")))
    return transform
