"""Cache what one frozen teacher sees in every view of one dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kd.data.options import Augmentation
from kd.jobs.run import Context, Outcome, stage_main
from kd.models.spec import Level
from kd.options import BaseOptions

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

BATCH = 256


class Spec(BaseOptions):
    """What a store depends on, beside its teacher and its dataset."""

    levels: list[Level]
    views: int
    """Stored views of the train split; val and test are stored once, as they are."""
    augmentation: Augmentation | None
    seed: int


def build(context: Context[Spec]) -> Outcome:
    """Run the teacher over every view of every split."""
    import torch

    from kd.data.packed import read_info, read_split
    from kd.data.views import Views, to_float
    from kd.embeddings.store import create_store, write_split
    from kd.models.network import freeze, tap_shapes
    from kd.models.weights import load_network
    from kd.training.loop import make_fabric

    spec = context.spec
    fabric = make_fabric("32")
    network = load_network(context.upstream["teacher"])
    shapes = tap_shapes(network, spec.levels)
    teacher = fabric.to_device(freeze(network))
    views = Views(read_info(context.upstream["dataset"]), spec.seed, spec.augmentation)
    store = create_store(context.directory)
    stored = 0
    for name in ("train", "val", "test"):
        split = read_split(context.upstream["dataset"], name)
        train = name == "train"

        def tap(images: np.ndarray, ids: np.ndarray, view: int, *, train: bool = train) -> dict[str, Tensor]:
            pixels = fabric.to_device(torch.from_numpy(images))
            with torch.inference_mode():
                features = teacher(views(pixels, ids, view) if train else to_float(pixels), spec.levels)
            return {level: features.at(level) for level in spec.levels}

        write_split(store, name, split, shapes, spec.views if train else 1, tap, BATCH)
        stored += len(split.ids) * (spec.views if train else 1)
    values = {level: int(torch.tensor(shape).prod()) for level, shape in shapes.items()}
    return Outcome(
        {"bytes_per_view": {level: 2 * count for level, count in values.items()}, "rows": stored}, str(fabric.device)
    )


if __name__ == "__main__":
    stage_main(Spec, build)
