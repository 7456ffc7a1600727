"""Cache what one frozen teacher sees in every view of one dataset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from kd.common.options import BaseOptions
from kd.data.options import Augmentation
from kd.embeddings.options import CacheOptions
from kd.jobs.run import Context, Outcome, stage_main

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from kd.embeddings.store import ComputedSplit

# Fields of the spec that readers do not depend on. They read the arrays and as many views as their own specs
# say: so somebody who wants another level, or more views, enlarges the store and leaves valid what was trained on it.
UNREAD = ("arrays", "views")


class Spec(BaseOptions):
    """Options that a store depends on, beside its teacher and its dataset."""

    dataset: str
    arrays: list[str]
    """`L1` to `L4`, and of the dataset's own teacher `logits` and `label_embeddings`."""
    views: int
    """Stored views of the train split; val and test are stored once, as they are."""
    augmentation: Augmentation | None
    cache: CacheOptions
    seed: int


def computed(spec: Spec, upstream: Mapping[str, Path], fabric: Fabric) -> Iterator[ComputedSplit]:
    """The contents of the store, split by split."""
    from kd.embeddings.computing import compute_embeddings

    return compute_embeddings(
        upstream["teacher"],
        upstream["dataset"],
        spec.arrays,
        views=spec.views,
        augmentation=spec.augmentation,
        cache=spec.cache,
        seed=spec.seed,
        fabric=fabric,
    )


def build(context: Context[Spec]) -> Outcome:
    """Run the teacher over every view of every split; go on where an earlier attempt was stopped."""
    from kd.embeddings.store import write_store
    from kd.models.devices import make_fabric

    fabric = make_fabric("32")
    write_store(context.directory, computed(context.spec, context.upstream, fabric), context.kin)
    return Outcome({}, str(fabric.device))


if __name__ == "__main__":
    stage_main(Spec, build, UNREAD)
