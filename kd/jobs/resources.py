"""What jobs ask for of a workstation or of Slurm. Nothing of it changes a result, so it is in no key."""

from __future__ import annotations

import re
from typing import Annotated, Any, Self

from annotated_types import Ge, Gt
from pydantic import BeforeValidator, model_validator

from kd.options import BaseOptions

MINUTES = {"m": 1, "h": 60, "d": 24 * 60}
TRAINING = ("train_teacher", "train_joint_teacher", "distill_student", "train_baseline")
CACHING = ("cache_embeddings", "cache_targets")
DECODING_THREADS = 4  # of prepare_dataset, unless the config says otherwise
BESIDE_DATA_GIB = 4.0  # of main memory, for torch, networks and what streaming takes


def _minutes(value: Any) -> Any:
    """Minutes of `90`, `90m`, `4h`, `1.5d`."""
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([mhd])", value)
    if found is None:
        raise ValueError("expected minutes, or a number with m, h or d, such as 90m, 4h, 1.5d")
    return round(float(found[1]) * MINUTES[found[2]])


class Resources(BaseOptions):
    """Of each job of a stage."""

    gpus: Annotated[int, Ge(0)] | None = None
    """GPUs, on each node; several: a training uses them together; null: one where there are any; 0: the CPU."""
    nodes: Annotated[int, Gt(0)] = 1
    """Nodes that a training uses together; more than one takes Slurm."""
    threads: Annotated[int, Gt(0)] = 1
    """CPU cores, for each GPU if there are several; unless given, prepare_dataset, which decodes with all of them, has
    4."""
    mem_gib: Annotated[float, Gt(0)] | None = None
    """Main memory on each node; null: for each GPU 4 more than memory.ram_gib. Each retry asks for as much again."""
    runtime: Annotated[int, Gt(0), BeforeValidator(_minutes)] = 240
    """Time limit: minutes, or 90m, 4h, 1.5d; grows with each retry, too."""
    partition: str | None = None
    """Of Slurm."""
    account: str | None = None
    """Of Slurm."""
    qos: str | None = None
    """Of Slurm."""
    constraint: str | None = None
    """Features that a node must have."""
    gpu_model: str | None = None
    """Kind of GPU, as Slurm's gres names it, such as a100."""
    slurm_extra: str | None = None
    """Further options of sbatch."""

    @property
    def processes_per_node(self) -> int:
        """Of a training: one for each GPU."""
        return max(1, self.gpus or 1)

    @property
    def processes(self) -> int:
        """Of a training, on all its nodes."""
        return self.processes_per_node * self.nodes

    def memory_gib(self, data_gib: float) -> float:
        """Main memory to ask for on each node, where each process keeps so much data in it."""
        return self.processes_per_node * (data_gib + BESIDE_DATA_GIB) if self.mem_gib is None else self.mem_gib


class ResourcesConfig(BaseOptions):
    """What jobs ask for, by stage."""

    jobs_per_gpu: Annotated[int, Gt(0)] = 1
    """Jobs that share a GPU of a workstation; more than one suits small networks."""
    preload: bool = True
    """The jobs of a workstation are forked from a process that has imported torch and timm, which takes seconds; false:
    each job imports them itself."""
    all: Resources = Resources()
    """Of every stage that does not say otherwise."""
    prepare_dataset: Resources = Resources()
    train_teacher: Resources = Resources()
    cache_embeddings: Resources = Resources()
    train_joint_teacher: Resources = Resources()
    cache_targets: Resources = Resources()
    distill_student: Resources = Resources()
    train_baseline: Resources = Resources()

    @model_validator(mode="after")
    def _one_device_but_for_training(self) -> Self:
        for stage in ("prepare_dataset", *CACHING):
            own: Resources = getattr(self, stage)
            if (own.gpus or 0) > 1 or own.nodes > 1:
                raise ValueError(f"{stage}: only trainings use several GPUs or nodes ({', '.join(TRAINING)})")
        return self

    def of(self, stage: str) -> Resources:
        """What the jobs of a stage ask for; of stages without a section, which need neither GPU nor Slurm, `all`."""
        own: Resources = getattr(self, stage, Resources())
        given = self.all.model_dump(exclude_unset=True) | own.model_dump(exclude_unset=True)
        if stage not in TRAINING:
            given["nodes"] = 1
            given["gpus"] = None if given.get("gpus") is None else min(given["gpus"], 1)
        if stage not in (*TRAINING, *CACHING):
            given["gpus"] = 0
            given.setdefault("threads", DECODING_THREADS)
        return Resources.model_validate(given)
