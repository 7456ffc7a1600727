"""Distil a student for one dataset, from a joint teacher or from an individual one."""

from __future__ import annotations

from kd.jobs.run import Context, Outcome, stage_main
from kd.training.recipe import StudentSpec

Spec = StudentSpec


def build(context: Context[Spec]) -> Outcome:
    """Train, read test once with the weights of each selection, store the selected ones as a timm model."""
    from kd.training.students import distill_student

    return Outcome(*distill_student(context.directory, context.spec, context.upstream))


if __name__ == "__main__":
    stage_main(Spec, build)
