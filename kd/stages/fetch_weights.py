"""Get timm's pretrained weights of an architecture: the one stage that uses the network."""

from __future__ import annotations

from kd.common.options import BaseOptions
from kd.jobs.run import Context, Outcome, stage_main


class Spec(BaseOptions):
    """The weights to fetch."""

    architecture: str
    registry: str
    """Version of timm, since what it has under a name belongs to that."""


def build(context: Context[Spec]) -> Outcome:
    """Store them with the classifier that they have."""
    from kd.models.backbones.timm_weights import fetch_pretrained

    fetch_pretrained(context.spec.architecture, context.directory)
    return Outcome({})


if __name__ == "__main__":
    stage_main(Spec, build)
