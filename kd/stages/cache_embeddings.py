"""Cache what one frozen teacher sees in every view of one dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kd.data.options import Augmentation
from kd.embeddings.options import CacheOptions
from kd.jobs.run import Context, Outcome, stage_main
from kd.models.spec import LEVELS
from kd.options import BaseOptions

if TYPE_CHECKING:
    from torch import Tensor

BATCH = 256
# Fields of the spec that readers do not depend on. They read the arrays and as many views as their own specs
# say: so somebody who wants another level, or more views, enlarges the store and leaves valid what was trained on it.
UNREAD = ("arrays", "views")


class Spec(BaseOptions):
    """What a store depends on, beside its teacher and its dataset."""

    dataset: str
    arrays: list[str]
    """`L1` to `L4`, and of the dataset's own teacher `logits` and `label_embeddings`."""
    views: int
    """Stored views of the train split; val and test are stored once, as they are."""
    augmentation: Augmentation | None
    cache: CacheOptions
    seed: int


def build(context: Context[Spec]) -> Outcome:
    """Run the teacher over every view of every split; go on where an earlier attempt was stopped."""
    import torch

    from kd.data.packed import open_split
    from kd.data.views import Views, to_float
    from kd.embeddings.encoding import reduce_map
    from kd.embeddings.store import create_store, stored_arrays, stored_layouts, write_split
    from kd.models.network import freeze, tap_shapes
    from kd.models.weights import load_network
    from kd.training.devices import make_fabric, send

    spec = context.spec
    fabric = make_fabric("32")
    network = load_network(context.upstream["teacher"])
    shapes = {
        name: spec.cache.shape(name, shape) for name, shape in tap_shapes(network, spec.arrays, spec.dataset).items()
    }
    levels = [level for level in LEVELS if level in spec.arrays]
    teacher = fabric.to_device(freeze(network))
    store = create_store(context.directory)
    for name in ("train", "val", "test"):
        split = open_split(context.upstream["dataset"], name)
        layouts = stored_layouts(shapes, spec.cache, split.info)
        train = name == "train"
        views = Views("shared", split.info, spec.seed, spec.augmentation)

        def make(rows: slice, view: int, *, train: bool = train) -> dict[str, Tensor]:
            pixels = send(fabric, torch.from_numpy(split.images.read(rows)))  # noqa: B023
            seen = views(pixels, split.ids[rows], view) if train else to_float(pixels)  # noqa: B023
            with torch.inference_mode():
                features = teacher(seen, levels)
            values = {name: reduce_map(features.named(name, spec.dataset), name, spec.cache) for name in spec.arrays}
            return stored_arrays(values, spec.cache, split, rows)  # noqa: B023

        write_split(store, split, layouts, spec.views if train else 1, make, BATCH, context.kin)
    return Outcome({}, str(fabric.device))


if __name__ == "__main__":
    stage_main(Spec, build, UNREAD)
