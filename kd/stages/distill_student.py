"""Distil a student for one dataset, from a joint teacher or from an individual one."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kd.common.options import BaseOptions
from kd.embeddings.options import CacheOptions
from kd.jobs.run import Context, Outcome, stage_main
from kd.models.spec import Level, ModelSpec
from kd.training.recipe import Recipe

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from kd.data.loader import MemoryBudget
    from kd.data.packed import Split
    from kd.training.students import MakeSource
    from kd.training.targets import TargetSource


class Spec(BaseOptions):
    """Options that a student depends on, beside its dataset and its targets."""

    dataset: str
    level: Level | None
    """Of the joint teacher; of an individual one how deep maps are compared, where the method leaves that open."""
    individual: bool
    """The one individual teacher itself makes the targets; otherwise a joint teacher does."""
    model: ModelSpec
    distiller: dict[str, Any]
    views: int | None
    """Stored views; None: the teachers look at a new view in each epoch."""
    live: CacheOptions | None
    """Resolution of maps where teachers are live; None: they are not."""
    live_teachers: list[str]
    """Individual teachers behind the targets, where they are live."""
    recipe: Recipe
    seed: int


def build(context: Context[Spec]) -> Outcome:
    """Train, read test once with the weights of each selection, store the selected ones as a timm model."""
    from kd.distillers.registry import parse_distiller
    from kd.training.students import distill_student

    spec = context.spec
    method = parse_distiller(spec.distiller)
    names = method.required(spec.level).names()
    return Outcome(
        *distill_student(
            context.directory,
            context.upstream["dataset"],
            _target_source(context, names),
            model=spec.model,
            method=method,
            names=names,
            views=spec.views,
            recipe=spec.recipe,
            seed=spec.seed,
            pretrained=context.upstream.get("weights"),
        )
    )


def _target_source(context: Context[Spec], names: tuple[str, ...]) -> MakeSource:
    """Stored targets, stored embeddings of the individual teacher, live teachers, or nothing."""
    from kd.training.targets import LIVE, STORED, NoTargets

    spec, upstream = context.spec, context.upstream

    def make(split: Split, fabric: Fabric, memory: MemoryBudget) -> TargetSource:
        if not names:
            return NoTargets()
        if spec.live is not None:
            directories = [upstream[f"teacher:{teacher}"] for teacher in spec.live_teachers]
            tapped = names if spec.individual else tuple(filter(None, (spec.level,)))
            source: TargetSource = import_module(LIVE).LiveTargets(
                directories, tapped, spec.dataset, spec.live, names, upstream.get("joint_teacher"), fabric
            )
        else:
            assert spec.views is not None
            source = import_module(STORED).StoredTargets(upstream["targets"], split, names, spec.views, fabric, memory)
        return source

    return make


if __name__ == "__main__":
    stage_main(Spec, build)
