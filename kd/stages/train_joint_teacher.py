"""Train a joint teacher on the cached embeddings of its individual teachers."""

from __future__ import annotations

from kd.jobs.run import Context, Outcome, stage_main
from kd.models.spec import Level, ModelSpec
from kd.options import BaseOptions
from kd.training.recipe import Recipe


class Spec(BaseOptions):
    """What a joint teacher depends on, beside its datasets and embeddings."""

    level: Level
    teachers: list[str]
    targets: list[str]
    student: ModelSpec | None
    """Whose map shapes the distilled maps take; None (scope shared, or L1): maps of `width` channels."""
    width: int
    dropout: float
    views: int
    recipe: Recipe
    seed: int


def build(context: Context[Spec]) -> Outcome:
    """Train, read test once with the weights of each selection, store the selected ones."""
    from kd.training.fusion import train_joint_teacher

    spec = context.spec
    datasets = [context.upstream[f"dataset:{target}"] for target in spec.targets]
    stores = [
        [context.upstream[f"embeddings:{teacher}:{target}"] for teacher in spec.teachers] for target in spec.targets
    ]
    return Outcome(
        *train_joint_teacher(
            context.directory,
            datasets,
            stores,
            level=spec.level,
            student=spec.student,
            width=spec.width,
            dropout=spec.dropout,
            views=spec.views,
            recipe=spec.recipe,
            seed=spec.seed,
        )
    )


if __name__ == "__main__":
    stage_main(Spec, build)
