"""Train an individual teacher on its own dataset, or take given weights as they are."""

from __future__ import annotations

from kd.common.options import BaseOptions
from kd.jobs.run import Context, Outcome, stage_main
from kd.models.spec import ModelSpec
from kd.training.recipe import Recipe


class Spec(BaseOptions):
    """Options that an individual teacher depends on, beside its dataset."""

    model: ModelSpec
    recipe: Recipe | None
    seed: int


def build(context: Context[Spec]) -> Outcome:
    """Train, read test once with the weights of each selection, store the selected ones."""
    from kd.training.supervised import train_network

    spec = context.spec
    datasets = [context.upstream["dataset"]]
    weights = context.upstream.get("weights")
    return Outcome(*train_network(context.directory, datasets, spec.model, spec.recipe, spec.seed, weights))


if __name__ == "__main__":
    stage_main(Spec, build)
