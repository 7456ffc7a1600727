"""Cache what a joint teacher makes of every view of one dataset: the targets of its students."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kd.data.options import Augmentation
from kd.embeddings.options import CacheOptions
from kd.jobs.run import Context, Outcome, stage_main
from kd.models.spec import Level
from kd.options import BaseOptions

if TYPE_CHECKING:
    from torch import Tensor

    from kd.models.joint import JointConfig

BATCH = 256
BATCH_BYTES = 256 << 20  # of the joint teacher's widest tensor
# Fields of the spec that readers do not depend on. They read the arrays and as many views as their own specs
# say: so somebody who wants maps, too, or more views, enlarges the store and leaves valid what was trained on it.
UNREAD = ("arrays", "views")


class Spec(BaseOptions):
    """What the targets depend on, beside the joint teacher, the dataset and the embeddings of its views."""

    dataset: str
    level: Level
    """Of the joint teacher: what it reads of the embeddings."""
    teachers: list[str]
    """Individual teachers, in the order that the joint teacher takes their embeddings in."""
    arrays: list[str]
    """What is stored: `logits`, `L1`, distilled maps by level, `label_embeddings`."""
    views: int
    """Stored views of the train split; students need no others."""
    augmentation: Augmentation | None
    cache: CacheOptions
    seed: int


def batch_rows(joint: JointConfig) -> int:
    """Rows that are computed together: a power of two, fewer the wider the joint teacher."""
    if joint.grid is None:
        return BATCH
    row_bytes = 4 * len(joint.channels) * joint.width * joint.grid[0] * joint.grid[1]
    return min(BATCH, 1 << max(0, (BATCH_BYTES // row_bytes).bit_length() - 1))


def build(context: Context[Spec]) -> Outcome:
    """Run the joint teacher over the embeddings of every view; go on where an earlier attempt was stopped."""
    import torch

    from kd.data.packed import open_split
    from kd.embeddings.store import StoreReader, create_store, stored_arrays, stored_layouts, write_split
    from kd.models.network import freeze
    from kd.training.devices import make_fabric, send
    from kd.training.fusion import load_joint_teacher

    spec = context.spec
    fabric = make_fabric("32")
    joint = freeze(load_joint_teacher(context.upstream["joint_teacher"]))
    fabric.to_device(joint)
    split = open_split(context.upstream["dataset"], "train")
    stores = [
        StoreReader(context.upstream[f"embeddings:{teacher}"], [spec.level]).columns("train", split.ids)[spec.level]
        for teacher in spec.teachers
    ]

    def make(rows: slice, view: int) -> dict[str, Tensor]:
        embeddings: list[dict[str, Tensor]] = [
            {spec.level: send(fabric, store.read(rows, view)).float()} for store in stores
        ]
        with torch.inference_mode():
            made = joint.make_targets(embeddings, spec.dataset).named(spec.arrays)
        shapes.update({name: tuple(value.shape[1:]) for name, value in made.items()})
        return stored_arrays(made, spec.cache, split, rows)

    shapes: dict[str, tuple[int, ...]] = {}
    make(slice(0, 1), 0)
    layouts = stored_layouts(shapes, spec.cache, split.info)
    store = create_store(context.directory)
    write_split(store, split, layouts, spec.views, make, batch_rows(joint.config), context.kin)
    return Outcome({}, str(fabric.device))


if __name__ == "__main__":
    stage_main(Spec, build, UNREAD)
