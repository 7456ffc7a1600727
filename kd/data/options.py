"""Options of datasets and views. `kd.data.splits`, `kd.data.packed` and `kd.data.views` do what they say."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from kd.common.options import BaseOptions, expected

Resize = Literal["squash", "crop"]
Task = Literal["single_label", "multi_label"]
PolicyName = Literal["autoaugment_imagenet", "autoaugment_cifar10", "autoaugment_svhn", "randaugment", "trivialaugment"]
Size = Annotated[int, Gt(0)] | Annotated[float, Gt(0), Lt(1)]
Fraction = Annotated[float, Ge(0), Le(1)]
Byte = Annotated[int, Ge(0), Le(255)]
Colour = tuple[Byte, Byte, Byte]
Ground = Annotated[
    Literal["white", "black"] | Colour, expected("white, black, or [red, green, blue] of whole numbers in 0..255")
]

WHITE: Colour = (255, 255, 255)


def ground_colour(ground: Ground) -> Colour:
    """Red, green and blue in 0..255."""
    return {"white": WHITE, "black": (0, 0, 0)}[ground] if isinstance(ground, str) else ground


class Augmentation(BaseOptions):
    """Random geometry and colour, drawn anew for every view of every sample. Defaults change nothing."""

    crop: tuple[Annotated[float, Gt(0), Le(1)], Annotated[float, Gt(0), Le(1)]] = (1.0, 1.0)
    """Area of the visible part, as a range of fractions of the image (random resized crop)."""
    ratio: tuple[Annotated[float, Gt(0)], Annotated[float, Gt(0)]] = (1.0, 1.0)
    """Width / height of the visible part, as a range."""
    flip: Fraction = 0.0
    """Probability of a horizontal flip."""
    rotation: Annotated[float, Ge(0), Le(180)] = 0.0
    """Largest rotation to either side, in degrees."""
    shear: Annotated[float, Ge(0), Le(60)] = 0.0
    """Largest horizontal shear to either side, in degrees."""
    translate: Fraction = 0.0
    """Largest shift to either side, as a fraction of the image."""
    zoom: tuple[Annotated[float, Gt(0)], Annotated[float, Gt(0)]] = (1.0, 1.0)
    """Magnification, as a range; below 1 the image shrinks."""
    brightness: Fraction = 0.0
    """Brightness is multiplied by 1 - x .. 1 + x."""
    contrast: Fraction = 0.0
    """Contrast is multiplied by 1 - x .. 1 + x."""
    saturation: Fraction = 0.0
    """Saturation is multiplied by 1 - x .. 1 + x."""
    fill: Literal["black", "edge", "reflect"] = "black"
    """What shows where the image ends."""
    cutout: Fraction = 0.0
    """Ahead of everything else, every image is partly covered by a rectangle of one random colour: its height and
    width, as a fraction of those of the image (0.5 in L2D); 0: none. Its centre may lie anywhere, and what reaches
    beyond the image is cut off."""
    policy: PolicyName | None = None
    """One of torchvision's policies, ahead of all the above but `cutout`: one of the three sets that AutoAugment found,
    RandAugment, or TrivialAugment (the wide one). It works on the stored images, takes the nearest pixel, and fills
    with black whatever `fill` says. It runs on the CPU, image by image."""
    operations: Annotated[int, Gt(0)] = 2
    """Operations of `randaugment` that follow each other; not used by the other policies."""
    magnitude: Annotated[int, Ge(0), Le(30)] = 9
    """Strength of each operation of `randaugment`; not used by the other policies."""


class SplitOptions(BaseOptions):
    """Sizes of the splits: a count of samples, a fraction, or `null`.

    Splits that the source gives are kept, and a size caps them. A split that the source does not give is drawn from
    train, class by class in proportion. Fractions are of what the source gives as that split, else of what it gives
    as train. Where samples have several labels, the rarest one counts as the class; those without any are a class of
    their own.
    """

    train: Size | None = None
    """Training samples; `null`: all that val and test leave."""
    val: Size | None = None
    """Validation samples, for model selection; `null`: all that the source gives, or 0.15 of train."""
    test: Size | None = None
    """Test samples, read once at the end; `null`: all that the source gives, or 0.15 of train."""
    seed: Annotated[int, Ge(0)] = 0
    """Seed of the draw."""
