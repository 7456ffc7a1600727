"""Cache what a joint teacher makes of every view of one dataset: the targets of its students."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from kd.common.options import BaseOptions
from kd.data.options import Augmentation
from kd.embeddings.options import CacheOptions
from kd.jobs.run import Context, Outcome, stage_main
from kd.models.spec import Level

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from kd.embeddings.store import ComputedSplit

# Fields of the spec that readers do not depend on. They read the arrays and as many views as their own specs
# say: so somebody who wants maps, too, or more views, enlarges the store and leaves valid what was trained on it.
UNREAD = ("arrays", "views")


class Spec(BaseOptions):
    """Options that the targets depend on, beside joint teacher, dataset and embeddings."""

    dataset: str
    level: Level
    """Level that the joint teacher reads of the embeddings."""
    teachers: list[str]
    """Individual teachers, in the order that the joint teacher takes their embeddings in."""
    arrays: list[str]
    """What is stored: `logits`, `L1`, distilled maps by level, `label_embeddings`."""
    views: int
    """Stored views of the train split; students need no others."""
    augmentation: Augmentation | None
    cache: CacheOptions
    seed: int


def computed(spec: Spec, upstream: Mapping[str, Path], fabric: Fabric) -> Iterator[ComputedSplit]:
    """The contents of the store."""
    from kd.embeddings.computing import compute_targets

    return compute_targets(
        upstream["joint_teacher"],
        upstream["dataset"],
        [upstream[f"embeddings:{teacher}"] for teacher in spec.teachers],
        spec.arrays,
        level=spec.level,
        views=spec.views,
        cache=spec.cache,
        fabric=fabric,
    )


def build(context: Context[Spec]) -> Outcome:
    """Run the joint teacher over the embeddings of every view; go on where an earlier attempt was stopped."""
    from kd.embeddings.store import write_store
    from kd.models.devices import make_fabric

    fabric = make_fabric("32")
    write_store(context.directory, computed(context.spec, context.upstream, fabric), context.kin)
    return Outcome({}, str(fabric.device))


if __name__ == "__main__":
    stage_main(Spec, build, UNREAD)
