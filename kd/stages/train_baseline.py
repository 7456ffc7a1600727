"""Train the joint baseline: one network on all datasets at once, with a head for each."""

from __future__ import annotations

from kd.common.options import BaseOptions
from kd.jobs.run import Context, Outcome, stage_main
from kd.models.spec import ModelSpec
from kd.training.recipe import Recipe


class Spec(BaseOptions):
    """Options that the baseline depends on, beside its datasets."""

    datasets: list[str]
    model: ModelSpec
    recipe: Recipe
    seed: int


def build(context: Context[Spec]) -> Outcome:
    """Train, read test once with the weights of each selection, store the selected ones."""
    from kd.training.supervised import train_network

    spec = context.spec
    datasets = [context.upstream[f"dataset:{name}"] for name in spec.datasets]
    weights = context.upstream.get("weights")
    return Outcome(*train_network(context.directory, datasets, spec.model, spec.recipe, spec.seed, weights))


if __name__ == "__main__":
    stage_main(Spec, build)
