"""Train a joint teacher on the embeddings of its individual teachers."""

from __future__ import annotations

from kd.jobs.run import Context, Outcome, stage_main
from kd.training.recipe import JointSpec

Spec = JointSpec


def build(context: Context[Spec]) -> Outcome:
    """Train, read test once with the weights of each selection, store the selected ones."""
    from kd.training.fusion import train_joint_teacher

    return Outcome(*train_joint_teacher(context.directory, context.spec, context.upstream))


if __name__ == "__main__":
    stage_main(Spec, build)
