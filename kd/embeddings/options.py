"""What stores hold, and how it is stored: what it weighs and what is lost. Imports no torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Literal, NamedTuple, cast

from annotated_types import Gt

from kd.common.options import BaseOptions
from kd.data.options import Augmentation
from kd.models.spec import MAP_LEVELS, Level, MapLevel

Dtype = Literal["float32", "float16", "bfloat16", "int8"]
Cells = Annotated[int, Gt(1)]

STORED_DTYPES: dict[Dtype, str] = {"float32": "float32", "float16": "float16", "bfloat16": "uint16", "int8": "int8"}
"""numpy's type of what is on disk; numpy knows no bfloat16, so that is stored as its 16 bits."""

POSITIVES = "positive_embeddings"
"""Name of the array of a store that holds label-wise embeddings of positives alone; see `kd.embeddings.encoding`."""


class Layout(NamedTuple):
    """How one sample is stored: shape of a row, and precision."""

    shape: tuple[int, ...]
    dtype: Dtype


def stored_dtype(name: str, dtype: Dtype) -> Dtype:
    """Precision of an array: logits are small and decide the loss, so they have float16 at least."""
    return dtype if name != "logits" or dtype == "float32" else "float16"


class CacheOptions(BaseOptions):
    """Precision and resolution of stored embeddings and targets."""

    dtype: Dtype = "float16"
    """Precision; `int8` has a scale for each channel of each chunk. Logits have float16 at least."""
    pool: dict[MapLevel, Cells] = {}
    """Levels with a number n, such as `{L3: 2}`: maps of the level are averaged over cells of n x n."""
    stride: dict[MapLevel, Cells] = {}
    """Levels with a number n, such as `{L4: 2}`: of the maps of the level every n-th row and column is kept."""
    label_embeddings: Literal["all", "positives"] = "all"
    """Of methods that compare an embedding for each label: `all` labels, or `positives`: those of the labels that a
    sample has, padded to the most that any sample of the dataset has. The losses of this project read no others."""

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    def for_levels(self, levels: Collection[str]) -> CacheOptions:
        """The part that concerns some levels, or `label_embeddings`."""
        return CacheOptions(
            dtype=self.dtype,
            pool={level: cells for level, cells in self.pool.items() if level in levels},
            stride={level: cells for level, cells in self.stride.items() if level in levels},
            label_embeddings=self.label_embeddings if "label_embeddings" in levels else "all",
        )

    def shape(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape that one sample is stored with: maps (C, h, w) are smaller where they are pooled or strided."""
        if name not in MAP_LEVELS:
            return shape
        channels, *grid = shape
        for cells in self.cells(name):
            grid = [-(-size // cells) for size in grid]
        return (channels, *grid)

    def stored_name(self, name: str) -> str:
        """The name of an array in a store."""
        return POSITIVES if name == "label_embeddings" and self.label_embeddings == "positives" else name

    def stored(self, shapes: Mapping[str, tuple[int, ...]], most_labels: int) -> dict[str, Layout]:
        """How arrays of these shapes of a row are stored: shape and precision, by the names that they have in a store.

        Args:
            shapes: as `shape` gives them.
            most_labels: of one sample of the dataset.
        """
        found = {
            self.stored_name(name): Layout(shape, stored_dtype(name, self.dtype)) for name, shape in shapes.items()
        }
        if POSITIVES in found:
            (_, width), dtype = found[POSITIVES]
            found[POSITIVES] = Layout((most_labels, width), dtype)
        return found

    def cells(self, name: str) -> tuple[int, int]:
        """How maps of a level are pooled, and then strided."""
        level = cast("MapLevel", name)
        return self.pool.get(level, 1), self.stride.get(level, 1)


class StoreSpec(BaseOptions):
    """Options that a store depends on, beside whoever sees the views, and the dataset."""

    dataset: str
    arrays: list[str]
    """What is stored: `logits`, `L1` to `L4`, `label_embeddings`."""
    views: int
    """Stored views of the train split; embeddings of val and test are stored once, as they are."""
    augmentation: Augmentation | None
    """Makes the views; None: they are the samples themselves."""
    cache: CacheOptions
    seed: int
    """Of the views."""


class TargetsSpec(StoreSpec):
    """Options that targets depend on, beside joint teacher, dataset and embeddings."""

    level: Level
    """Level that the joint teacher reads of the embeddings."""
    teachers: list[str]
    """Individual teachers, in the order that the joint teacher takes their embeddings in."""
