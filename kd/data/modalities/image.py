"""Images: (H, W, C) uint8 in the store, (3, H, W) float32 in 0..1 for backbones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge
from pydantic import AfterValidator

from kd.data.modalities.base import Modality, Shape, View
from kd.data.options import WHITE, Colour, Ground, Resize, ground_colour
from kd.data.sources.files import IMAGES

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image
    from torch import Tensor

    from kd.common.streams import Audience
    from kd.data.options import Augmentation

FILES = IMAGES
Edge = Annotated[int, Ge(8)]
Edges = tuple[Edge, Edge]
Size = Annotated[Edge | Edges, AfterValidator(lambda size: (size, size) if isinstance(size, int) else size)]


class Pixels(Modality):
    """Options of images, and of what is made of images: the sizes that they are stored and seen with."""

    image_size: Size
    """Pixels that samples are seen with: one number for squares, or `[height, width]`."""
    store_size: Size | None = None
    """Pixels that samples are stored with, where random crops are to come from larger images, such as 256 for an
    `image_size` of 224; `null`: as `image_size`. Val, test and views without augmentation are the stored image, brought
    to `image_size`."""
    resize: Resize = "squash"
    """`squash`: ignore the aspect ratio; `crop`: keep it and cut the longer side."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of views."""
        assert isinstance(self.image_size, tuple)
        return self.image_size

    @property
    def stored(self) -> tuple[int, int]:
        """Height and width in the store."""
        return self.store_size if isinstance(self.store_size, tuple) else self.size

    def pixels(self, image: Image, channels: int) -> np.ndarray:
        """An image as it is stored, (H, W, channels) uint8; it is resized as by timm's evaluation, bicubic."""
        import numpy as np
        from PIL import ImageOps
        from PIL.Image import Resampling

        image, (height, width) = image.convert("L" if channels == 1 else "RGB"), self.stored
        if self.resize == "squash":
            image = image.resize((width, height), Resampling.BICUBIC)
        else:
            image = ImageOps.fit(image, (width, height), Resampling.BICUBIC)
        return np.asarray(image).reshape(height, width, channels)


class Samples(Pixels):
    """Options of images: how they are stored and seen."""

    ground: Annotated[Ground, AfterValidator(ground_colour)] = WHITE
    """What shows where images are transparent, also in `python -m kd predict`: `white`, `black`, or
    `[red, green, blue]` in 0..255."""

    @property
    def colour(self) -> Colour:
        """The colour that shows where images are transparent."""
        return ground_colour(self.ground)

    def shape(self, channels: int) -> Shape:
        """(H, W, C)."""
        return (*self.stored, channels)

    def decode(self, opened: Image, out: np.ndarray) -> tuple[str, ...]:
        """From PIL, of any mode and size."""
        from kd.data.decoding import opaque

        image, changes = opaque(opened, self.colour)
        out[...] = self.pixels(image, out.shape[-1])
        return changes


def plain(samples: Samples, stored: Tensor) -> Tensor:
    """(B, H, W, C) uint8 to (B, 3, h, w) float32 in 0..1."""
    from kd.data.views import resize_images, to_float

    return resize_images(to_float(stored), samples.size)


def views(samples: Samples, stream: Audience, dataset: str, seed: int, augmentation: Augmentation | None) -> View:
    """Views of a batch, as `kd.data.views` computes them."""
    from kd.data.views import Views

    return Views(stream, dataset, seed, augmentation, samples.size)


def as_pixels(samples: Any) -> Pixels:
    """Samples that are known to be images, or made of such."""
    assert isinstance(samples, Pixels)
    return samples
