"""Distil a student for one dataset, from a joint teacher or from an individual one."""

from __future__ import annotations

from typing import Any

from kd.jobs.run import Context, Outcome, stage_main
from kd.models.spec import Level, ModelSpec, cached_levels
from kd.options import BaseOptions
from kd.training.recipe import Recipe


class Spec(BaseOptions):
    """What a student depends on, beside its dataset, its teacher and their embeddings."""

    dataset: str
    level: Level
    teachers: list[str]
    """Individual teachers whose embeddings the targets are made from."""
    individual: bool
    """The one individual teacher itself makes the targets; otherwise a joint teacher does."""
    model: ModelSpec
    distiller: dict[str, Any]
    views: int
    recipe: Recipe
    seed: int


def build(context: Context[Spec]) -> Outcome:
    """Train, read test once with the weights of each selection, store the selected ones as a timm model."""
    from kd.distillers.registry import load_distiller
    from kd.training.students import distill_student

    spec = context.spec
    distiller = load_distiller(spec.distiller["name"])
    return Outcome(
        *distill_student(
            context.directory,
            context.upstream["dataset"],
            context.upstream["teacher"],
            [context.upstream[f"embeddings:{teacher}"] for teacher in spec.teachers],
            individual=spec.individual,
            levels=cached_levels(spec.level, individual=spec.individual),
            model=spec.model,
            distiller=(distiller, distiller.Options.model_validate(spec.distiller)),
            views=spec.views,
            recipe=spec.recipe,
            seed=spec.seed,
        )
    )


if __name__ == "__main__":
    stage_main(Spec, build)
