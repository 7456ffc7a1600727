"""Cache what one frozen teacher sees in every view of one dataset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from kd.embeddings.options import StoreSpec
from kd.jobs.run import Context, Outcome, stage_main

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from kd.embeddings.store import ComputedSplit

# Fields of the spec that readers do not depend on. They read the arrays and as many views as their own specs
# say: so somebody who wants another level, or more views, enlarges the store and leaves valid what was trained on it.
UNREAD = ("arrays", "views")

Spec = StoreSpec


def computed(spec: Spec, upstream: Mapping[str, Path], fabric: Fabric) -> Iterator[ComputedSplit]:
    """The contents of the store, split by split."""
    from kd.embeddings.computing import compute_embeddings

    return compute_embeddings(spec, upstream, fabric)


def build(context: Context[Spec]) -> Outcome:
    """Run the teacher over every view of every split; go on where an earlier attempt was stopped."""
    from kd.embeddings.store import write_store
    from kd.models.devices import make_fabric

    fabric = make_fabric("32")
    write_store(context.directory, computed(context.spec, context.upstream, fabric), context.kin)
    return Outcome({}, str(fabric.device))


if __name__ == "__main__":
    stage_main(Spec, build, UNREAD)
