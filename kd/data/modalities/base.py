"""What a modality is: how samples are read, stored as uint8, and viewed. All else knows only shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, cast

from kd.common.options import BaseOptions
from kd.common.registry import Registry

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from kd.common.streams import Audience
    from kd.data.options import Augmentation

Shape = tuple[int, ...]


class View(Protocol):
    """Views of one dataset under one seed: a pure function of the samples, their ids and the number of the view."""

    def __call__(self, stored: Tensor, ids: np.ndarray, view: int, /) -> Tensor:
        """(B, ...) uint8 as stored, (B,) ids, and a number from 0, to what backbones take: (B, ...) float32 in 0..1."""


class Modality(BaseOptions):
    """Samples of one kind, in one dataset; its fields are the options of the dataset that say how they are stored.

    Each file of this folder defines one subclass, which is called `Samples`, and two functions of its samples, `plain`
    and `views`, as below: apart, so that an edit of views packs no dataset again. Where samples lie in files, it
    has `FILES`, too, their kind. Importing one is cheap: heavy imports belong inside its functions.
    """

    @classmethod
    def name(cls) -> str:
        """The name of its file or of its entry point; for any other module, its full name."""
        return MODALITIES.name_of(cls.__module__)

    def shape(self, channels: int) -> Shape:
        """Shape of one stored sample, uint8; `channels` is 1 where all samples are grey, else 3."""
        raise NotImplementedError

    def decode(self, opened: Any, out: np.ndarray) -> tuple[str, ...]:
        """Fill `out`, of that shape, with a sample.

        Args:
            opened: what `open` of a source's sample gave.
            out: (...) uint8.

        Returns:
            What had to be changed, in words.
        """
        raise NotImplementedError


MODALITIES = Registry(
    "kd.data.modalities",
    "kd.modalities",
    {"Samples": Modality, "plain": Callable, "views": Callable},
    others=("base",),
)


def load_modality(name: str) -> type[Modality]:
    """The modality of a name that a config or a source has."""
    return cast("type[Modality]", MODALITIES.load(name).Samples)


def stored_modality(name: str) -> type[Modality]:
    """The modality of a name that a file has; for errors see `Registry.stored`."""
    return cast("type[Modality]", MODALITIES.stored(name).Samples)


def plain(samples: Modality, stored: Tensor) -> Tensor:
    """Samples as they are: (B, ...) uint8 as stored to what backbones take, (B, ...) float32 in 0..1."""
    made: Tensor = MODALITIES.load(samples.name()).plain(samples, stored)
    return made


def views_of(samples: Modality, stream: Audience, dataset: str, seed: int, augmentation: Augmentation | None) -> View:
    """Views of a dataset of such samples; for the other arguments see `kd.data.views.Views`."""
    made: View = MODALITIES.load(samples.name()).views(samples, stream, dataset, seed, augmentation)
    return made
