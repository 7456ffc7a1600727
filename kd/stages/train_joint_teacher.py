"""Train a joint teacher on the embeddings of its individual teachers."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from kd.embeddings.options import CacheOptions
from kd.jobs.run import Context, Outcome, stage_main
from kd.models.spec import JointOptions
from kd.training.recipe import Recipe

if TYPE_CHECKING:
    from kd.training.fusion import MakeSamples


class Spec(JointOptions):
    """Options that a joint teacher depends on, beside its datasets and embeddings."""

    teachers: list[str]
    targets: list[str]
    views: int | None
    """Stored views; None: the teachers look at a new view in each epoch."""
    live: CacheOptions | None
    """Resolution of maps where teachers are live; None: they are not."""
    recipe: Recipe
    seed: int


def build(context: Context[Spec]) -> Outcome:
    """Train, read test once with the weights of each selection, store the selected ones."""
    from kd.training.fusion import train_joint_teacher

    spec = context.spec
    return Outcome(
        *train_joint_teacher(
            context.directory,
            [context.upstream[f"dataset:{target}"] for target in spec.targets],
            _embeddings(context),
            spec,
            spec.recipe,
            spec.seed,
        )
    )


def _embeddings(context: Context[Spec]) -> MakeSamples:
    """Embeddings from stores or, if the teachers are live, from the teachers themselves."""
    from kd.training.fusion import cached_embeddings
    from kd.training.targets import LIVE

    spec = context.spec
    if spec.live is not None:
        teachers = [context.upstream[f"teacher:{teacher}"] for teacher in spec.teachers]
        live: MakeSamples = import_module(LIVE).live_embeddings(
            teachers, spec.level, spec.live, spec.recipe.augmentation, spec.seed
        )
        return live
    assert spec.views is not None
    stores = [
        [context.upstream[f"embeddings:{teacher}:{target}"] for teacher in spec.teachers] for target in spec.targets
    ]
    return cached_embeddings(stores, spec.level, spec.views)


if __name__ == "__main__":
    stage_main(Spec, build)
