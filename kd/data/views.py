"""Views: what a network sees of a sample, as a pure function of (stream, seed, dataset, view number, sample id).

Nothing depends on batch order, batch size, worker or device. So an embedding that was cached for view v
belongs exactly to what a student sees in view v, in whatever batch it meets the sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from kd.common import streams
from kd.data.draws import draw
from kd.data.options import Augmentation

if TYPE_CHECKING:
    import numpy as np

POLICY_COLUMN = 13  # of the draws
BITS = 24  # of a draw, a multiple of 2^-24
POLICIES_DRAW_WITH = (torch.rand, torch.randint)
PADDING = {"black": "zeros", "edge": "border", "reflect": "reflection"}


class Views:
    """The views of one dataset under one seed.

    Args:
        stream: who sees them; see `kd.common.streams.Audience`.
        dataset: name of the dataset, which seeds the views.
        seed: of the run.
        augmentation: what is done to an image; None: every view is the image itself.
        size: height and width of a view; None: those of the stored image.
    """

    def __init__(
        self,
        stream: streams.Audience,
        dataset: str,
        seed: int,
        augmentation: Augmentation | None,
        size: tuple[int, int] | None = None,
    ) -> None:
        self.augmentation, self.size = augmentation, size
        self._stream, self._dataset, self._seed = stream, dataset, seed
        self._policy = None if augmentation is None or augmentation.policy is None else Policy(augmentation)

    def __call__(self, images: Tensor, ids: np.ndarray, view: int) -> Tensor:
        """One view of a batch, computed where the images are; a policy, however, on the CPU.

        Args:
            images: (B, H, W, C) uint8, C is 1 or 3.
            ids: (B,) sample ids.
            view: number of the view, from 0.

        Returns:
            (B, 3, h, w) float32 RGB in 0..1.
        """
        size = self.size or (images.shape[1], images.shape[2])
        if self.augmentation is None:
            return resize_images(to_float(images), size)
        drawn = draw(self._stream, self._seed, self._dataset, view, ids)
        draws = torch.from_numpy(drawn).to(images.device)
        if self.augmentation.cutout:
            images = cutout(images, draws, self.augmentation)
        if self._policy is not None:
            images = self._policy(images, drawn[:, POLICY_COLUMN])
        return jitter(warp(to_float(images), draws, self.augmentation, size), draws, self.augmentation)


def to_float(images: Tensor) -> Tensor:
    """(B, H, W, C) uint8 to (B, 3, H, W) float32 in 0..1; grey becomes RGB."""
    pixels = images.permute(0, 3, 1, 2).contiguous().float().div_(255)  # contiguous, as grid_sample likes it
    return pixels.expand(-1, 3, -1, -1) if pixels.shape[1] == 1 else pixels


def resize_images(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring (B, 3, H, W) images in 0..1 to another size, bicubic as timm does by default."""
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    return functional.interpolate(images, size=size, mode="bicubic", antialias=True).clamp(0, 1)


def cutout(images: Tensor, draws: Tensor, options: Augmentation) -> Tensor:
    """Cover a rectangle of each image with a colour (DeVries and Taylor, arXiv:1708.04552, who took grey).

    As L2D has it: the colour is random, and the centre may lie anywhere, so that the rectangle can reach beyond the
    image and is then cut off.

    Args:
        images: (B, H, W, C) uint8, C is 1 or 3.
        draws: (B, DRAWS) uniform; columns 14 and 15 are used. Half of the bits of the first give the row of the
            centre and half its column; those of the second are a colour.
        options: size.

    Returns:
        (B, H, W, 3) uint8 RGB.
    """
    place, colour = (draws[:, 14:16] * 2**BITS).long().unbind(1)
    half = 2 ** (BITS // 2)

    def covered(number: Tensor, length: int) -> Tensor:
        """(B, length) bool of one axis; `number` of 0 .. half - 1 places the centre."""
        edge = round(options.cutout * length)
        first = number * length // half - edge // 2
        offset = torch.arange(length, device=number.device) - first[:, None]
        return torch.logical_and(offset >= 0, offset < edge)

    rows, columns = covered(place // half, images.shape[1]), covered(place % half, images.shape[2])
    inside = (rows[:, :, None] & columns[:, None, :])[..., None]
    rgb = torch.stack([colour >> 16, colour >> 8 & 255, colour & 255], dim=1).to(torch.uint8)
    return torch.where(inside, rgb[:, None, None, :], images)


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
        if function in POLICIES_DRAW_WITH:
            return function(*args, **(kwargs or {}), generator=self._generator)
        return function(*args, **(kwargs or {}))


class Policy:
    """The policy of torchvision that the options name, with its defaults: nearest pixel, and black where an image ends.

    AutoAugment (Cubuk et al., CVPR 2019), RandAugment (Cubuk et al., NeurIPS 2020), or TrivialAugment, the wide
    one (Müller and Hutter, ICCV 2021).
    """

    def __init__(self, options: Augmentation) -> None:
        from torchvision.transforms import v2

        self._transform: Callable[[Tensor], Tensor]  # of one (3, H, W) uint8 image
        if options.policy == "randaugment":
            self._transform = v2.RandAugment(options.operations, options.magnitude)
        elif options.policy == "trivialaugment":
            self._transform = v2.TrivialAugmentWide()
        else:
            assert options.policy is not None
            self._transform = v2.AutoAugment(v2.AutoAugmentPolicy(options.policy.removeprefix("autoaugment_")))

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
                generator.manual_seed(int(draw * 2**BITS))
                changed[row] = self._transform(changed[row])
        return changed.permute(0, 2, 3, 1).to(images.device)


def _between(draw: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * draw


def warp(pixels: Tensor, draws: Tensor, options: Augmentation, size: tuple[int, int] | None = None) -> Tensor:
    """All geometric operations as one affine map per sample, in coordinates of -1..1 (any resolution).

    Args:
        pixels: (B, 3, H, W).
        draws: (B, DRAWS) uniform; columns 0 to 9 are used.
        options: ranges.
        size: height and width of what comes out; None: those of `pixels`.
    """
    rotation = torch.deg2rad(_between(draws[:, 0], -options.rotation, options.rotation))
    shear = torch.tan(torch.deg2rad(_between(draws[:, 1], -options.shear, options.shear)))
    zoom = _between(draws[:, 2], *options.zoom)
    area = _between(draws[:, 3], *options.crop)
    ratio = torch.exp(_between(draws[:, 4], *(math.log(bound) for bound in options.ratio)))
    # The visible part in half-image units; it stays inside the image before the other operations.
    width = (area * ratio).sqrt().clamp(max=1)
    height = (area / ratio).sqrt().clamp(max=1)
    shift_x = _between(draws[:, 5], -1, 1) * (1 - width) + _between(draws[:, 6], -2, 2) * options.translate
    shift_y = _between(draws[:, 7], -1, 1) * (1 - height) + _between(draws[:, 8], -2, 2) * options.translate
    mirror = torch.where(draws[:, 9] < options.flip, -1.0, 1.0)

    # Where in the image to look for the point (x, y) of the view: shear, then turn and zoom, then mirror,
    # cut and shift. As matrix, one row for each coordinate: (of x, of y, offset), each (B,).
    cos, sin = rotation.cos() / zoom, rotation.sin() / zoom
    look_x = (mirror * width * cos, mirror * width * (cos * shear - sin), mirror * shift_x)
    look_y = (height * sin, height * (sin * shear + cos), shift_y)
    rows, columns = size or (pixels.shape[2], pixels.shape[3])
    x = (torch.arange(columns, device=pixels.device) * 2 + 1) / columns - 1
    y = (torch.arange(rows, device=pixels.device) * 2 + 1) / rows - 1

    def coordinate(of_x: Tensor, of_y: Tensor, offset: Tensor) -> Tensor:
        """(B, H, W), as the sum of what depends on the column and what depends on the row."""
        return (of_x[:, None] * x + offset[:, None])[:, None, :] + (of_y[:, None] * y)[:, :, None]

    grid = torch.stack([coordinate(*look_x), coordinate(*look_y)], dim=-1)  # (B, H, W, 2)
    return functional.grid_sample(
        pixels, grid, mode="bilinear", padding_mode=PADDING[options.fill], align_corners=False
    )


def jitter(pixels: Tensor, draws: Tensor, options: Augmentation) -> Tensor:
    """Brightness, contrast (about mid-grey) and saturation, in this order and in place; the result stays in 0..1.

    Args:
        pixels: (B, 3, H, W) in 0..1; changed.
        draws: (B, DRAWS) uniform; columns 10 to 12 are used.
        options: ranges.
    """
    if options.brightness:
        pixels.mul_(_factor(draws[:, 10], options.brightness))
    if options.contrast:
        pixels.sub_(0.5).mul_(_factor(draws[:, 11], options.contrast)).add_(0.5)
    if options.saturation:
        grey = pixels.mean(dim=1, keepdim=True)
        pixels.sub_(grey).mul_(_factor(draws[:, 12], options.saturation)).add_(grey)
    return pixels.clamp_(0, 1)


def _factor(draw: Tensor, amount: float) -> Tensor:
    """(B, 1, 1, 1) factors in 1 - amount .. 1 + amount."""
    return _between(draw, 1 - amount, 1 + amount)[:, None, None, None]
