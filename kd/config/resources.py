"""What jobs ask for of a workstation or of Slurm, and keep in memory. Nothing of it changes a result or is in a key."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Self

from annotated_types import Ge, Gt
from pydantic import BeforeValidator, create_model, model_validator

from kd.common.options import BaseOptions
from kd.jobs.environment import DEFAULT_DEVICE_GIB, DEFAULT_RAM_GIB
from kd.stages.registry import stages_of

Minutes = Annotated[int, Gt(0)] | str
MINUTES = {"m": 1, "h": 60, "d": 24 * 60}
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


class MemoryConfig(BaseOptions):
    """Data that a job may keep in memory between epochs; what does not fit is streamed. Changes no result."""

    ram_gib: Annotated[float, Ge(0)] = DEFAULT_RAM_GIB
    """GiB of data that each job may keep in main memory between epochs."""
    device_gib: Annotated[float, Ge(0)] = DEFAULT_DEVICE_GIB
    """GiB of data that each job may keep on the GPU between epochs."""


class Resources(BaseOptions):
    """What each job of a stage asks for."""

    gpus: Annotated[int, Ge(0)] | None = None
    """GPUs of a job, on each of its nodes. `null`: one where there are any (with Slurm: one); 0: the CPU. A workstation
    that has fewer refuses to start. Several: a training shares each batch out among them, and gives what one would
    give, up to rounding and dropout (batch norm sees the whole batch on GPUs, and methods that compare samples with
    each other see it everywhere)."""
    nodes: Annotated[int, Gt(0)] = 1
    """Nodes that a training uses together; more than one needs Slurm."""
    threads: Annotated[int, Gt(0)] = 1
    """CPU cores, for each GPU if there are several. If it is not given, `prepare_dataset`, which decodes with all of
    them, has 4."""
    mem_gib: Annotated[float, Gt(0)] | None = None
    """GiB of main memory on each node; `null`: for each GPU 4 more than `memory.ram_gib`. With Slurm, a job that failed
    asks for as much again at each retry. On a workstation, of the jobs that say it only as many run at a time as fit
    into its memory."""
    runtime: Annotated[int, Gt(0), BeforeValidator(_minutes, json_schema_input_type=Minutes)] = 240
    """Time limit, with Slurm: minutes, or `90m`, `4h`, `1.5d`; it grows with each retry, too. A job that is out of time
    goes on from its last step."""
    partition: str | None = None
    """Slurm's partition, as `sbatch` has it."""
    account: str | None = None
    """Slurm's account, as `sbatch` has it."""
    qos: str | None = None
    """Slurm's quality of service, as `sbatch` has it."""
    constraint: str | None = None
    """Features that a node of Slurm must have, as `sbatch` has them."""
    gpu_model: str | None = None
    """Kind of GPU, as Slurm's gres names it, such as `a100`."""
    slurm_extra: str | None = None
    """Further options of `sbatch`."""

    @property
    def processes_per_node(self) -> int:
        """Processes of a training on each node: one for each GPU."""
        return max(1, self.gpus or 1)

    @property
    def processes(self) -> int:
        """Processes of a training on all its nodes."""
        return self.processes_per_node * self.nodes

    def memory_gib(self, data_gib: float) -> float:
        """Main memory to ask for on each node, where each process keeps so much data in it."""
        return self.processes_per_node * (data_gib + BESIDE_DATA_GIB) if self.mem_gib is None else self.mem_gib


class StageResources(BaseOptions):
    """What jobs ask for, by stage."""

    jobs_per_gpu: Annotated[int, Gt(0)] = 1
    """Jobs that share a GPU of a workstation; more than one suits small networks."""
    preload: bool = True
    """`true`: the jobs of a workstation are forked from a process that has imported torch and timm, which takes each of
    them seconds; `false`: each job imports them itself."""
    all: Resources = Resources()
    """What the jobs of every stage ask for that does not say otherwise."""

    @model_validator(mode="after")
    def _one_device_but_for_training(self) -> Self:
        for stage in stages_of("decoding", "inference"):
            own: Resources = getattr(self, stage)
            if (own.gpus or 0) > 1 or own.nodes > 1:
                training = ", ".join(stages_of("training"))
                raise ValueError(f"{stage}: only trainings use several GPUs or nodes ({training})")
        return self

    def of(self, stage: str) -> Resources:
        """What the jobs of a stage ask for; of stages without a section, which need neither GPU nor Slurm, `all`."""
        own: Resources = getattr(self, stage, Resources())
        given = self.all.model_dump(exclude_unset=True) | own.model_dump(exclude_unset=True)
        if stage not in stages_of("training"):
            given["nodes"] = 1
            given["gpus"] = None if given.get("gpus") is None else min(given["gpus"], 1)
        if stage not in stages_of("training", "inference"):
            given["gpus"] = 0
        if stage in stages_of("decoding"):
            given.setdefault("threads", DECODING_THREADS)
        return Resources.model_validate(given)


if TYPE_CHECKING:
    ResourcesConfig = StageResources
else:
    by_stage = {name: (Resources, Resources()) for name in stages_of("decoding", "training", "inference")}
    ResourcesConfig = create_model(
        "ResourcesConfig", __base__=StageResources, __doc__=StageResources.__doc__, **by_stage
    )
