"""All stages: what makes each, and what its jobs need. Plan, forecast, resources and rules follow this.

To add a stage: its module, an entry here, its rule in `workflow/rules`, and whoever plans its artefacts.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Literal

from kd.common.options import BaseOptions
from kd.stages import (
    cache_embeddings,
    cache_targets,
    distill_student,
    fetch_dataset,
    fetch_weights,
    prepare_dataset,
    report,
    train_baseline,
    train_joint_teacher,
    train_teacher,
)

Work = Literal["decoding", "network", "training", "inference", "reporting"]
"""What jobs do, and so what they need: decoding takes cores; network, that of the machine that Snakemake runs on;
training any number of GPUs; inference one GPU; reporting nothing, and so it is done where Snakemake runs, too."""


@dataclass(frozen=True)
class Stage:
    """One kind of artefact, and how it is planned and built.

    Attributes:
        name: of the rule, and of the folder in the results folder.
        module: makes it: `Spec` and `build`.
        work: what its jobs do.
    """

    name: str
    module: ModuleType
    work: Work

    @property
    def spec(self) -> type[BaseOptions]:
        """Type of its specs."""
        found: type[BaseOptions] = self.module.Spec
        return found

    @property
    def unread(self) -> tuple[str, ...]:
        """Fields of the spec that readers of the artefact do not depend on."""
        return getattr(self.module, "UNREAD", ())

    @property
    def follows(self) -> bool:
        """Whether it is made again when what it reads was, even if that has the same key."""
        return getattr(self.module, "FOLLOWS", False)

    def unread_of(self, upstream: str) -> tuple[str, ...]:
        """Fields of the specs of another stage that this one does not depend on; what follows it reads all of them."""
        return () if self.follows else STAGES[upstream].unread


STAGES = {
    stage.name: stage
    for stage in (
        Stage("fetch_dataset", fetch_dataset, "network"),
        Stage("prepare_dataset", prepare_dataset, "decoding"),
        Stage("fetch_weights", fetch_weights, "network"),
        Stage("train_teacher", train_teacher, "training"),
        Stage("cache_embeddings", cache_embeddings, "inference"),
        Stage("train_joint_teacher", train_joint_teacher, "training"),
        Stage("cache_targets", cache_targets, "inference"),
        Stage("distill_student", distill_student, "training"),
        Stage("train_baseline", train_baseline, "training"),
        Stage("table", report, "reporting"),
        Stage("figure", report, "reporting"),
        Stage("analysis", report, "inference"),
    )
}


def stages_of(*work: Work) -> tuple[str, ...]:
    """Names of the stages whose jobs do some kind of work."""
    return tuple(name for name, stage in STAGES.items() if stage.work in work)
