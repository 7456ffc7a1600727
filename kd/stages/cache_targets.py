"""Cache what a joint teacher makes of every view of one dataset: the targets of its students."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from kd.embeddings.options import TargetsSpec
from kd.jobs.run import Context, Outcome, stage_main

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from kd.embeddings.store import ComputedSplit

# Fields of the spec that readers do not depend on, as those of `cache_embeddings`.
UNREAD = ("arrays", "views")

Spec = TargetsSpec


def computed(spec: Spec, upstream: Mapping[str, Path], fabric: Fabric) -> Iterator[ComputedSplit]:
    """The contents of the store."""
    from kd.embeddings.computing import compute_targets

    return compute_targets(spec, upstream, fabric)


def build(context: Context[Spec]) -> Outcome:
    """Run the joint teacher over the embeddings of every view; go on where an earlier attempt was stopped."""
    from kd.embeddings.store import write_store
    from kd.models.devices import make_fabric

    fabric = make_fabric("32")
    write_store(context.directory, computed(context.spec, context.upstream, fabric), context.kin)
    return Outcome({}, str(fabric.device))


if __name__ == "__main__":
    stage_main(Spec, build, UNREAD)
