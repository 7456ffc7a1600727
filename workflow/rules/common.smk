# What the rules share: the plan of the whole run, and functions from wildcards to jobs.
import os
import shlex
from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.io import ancient
from snakemake.persistence import FileBackupMixin

from kd.config.include import overlay
from kd.config.load import load_config, read_config, read_settings
from kd.cli.publish import caption_file, config_json, key_file, reports_of, shown_file
from kd.jobs.environment import (
    give_jobs,
    main_memory,
    prefer_this_python,
    visible_devices,
)
from kd.common.errors import UserError
from kd.jobs.handover import job_file, told_file
from kd.planning.plan import Plan
from kd.stages.registry import STAGES


class Error(WorkflowError):
    """What a user can mend. Its message says where, so there is no place in the code for Snakemake to print after it."""

    __traceback__ = property(lambda self: None, lambda self, frames: None)


try:
    # Snakemake has read them already, but takes the last of two keys of one name in silence, and knows no includes.
    given = read_config(*map(Path, workflow.configfiles))
    # It leaves what is in the lists and mappings of --config as text, so these are read anew, too.
    told = read_settings(workflow.config_settings.config_args or ())
    PLAN = Plan(load_config(overlay(given, told)))
except UserError as error:
    raise Error(str(error)) from None

RESULTS = PLAN.config.results
CONFIG_FILE = told_file(RESULTS, "config", config_json(PLAN))
# What the user named, for people to read.
CONFIGFILE = ", ".join(str(Path(each).resolve()) for each in workflow.configfiles)
# Jobs run in the environment of this Snakemake, activated or not, and find the kd package from any directory.
prefer_this_python()
give_jobs(
    PLAN.config.memory.ram_gib,
    PLAN.config.memory.device_gib,
    jobs_per_gpu=PLAN.config.resources.jobs_per_gpu,
    events=PLAN.config.reports.tensorboard,
)
# Of jobs, and of whatever else is started for them.
PYTHONPATH = os.pathsep.join(
    filter(None, [str(workflow.basedir), os.environ.get("PYTHONPATH")])
)
QUOTED = shlex.quote(PYTHONPATH).replace("{", "{{").replace("}", "}}")
shell.prefix(f"set -euo pipefail; export PYTHONPATH={QUOTED}; ")


# A job that fails has left the manifest as it was. By itself, Snakemake would then write a copy of its own over it, byte by
# byte, or delete it, while it may be another person's who made it meanwhile and reads it.
FileBackupMixin.backup_output = lambda persistence, path: None
FileBackupMixin.restore_output = lambda persistence, path: path.exists()


wildcard_constraints:
    name="[A-Za-z0-9_-]+",
    key="[0-9a-f]{16}",


def artefact_of(wildcards):
    """What a rule's wildcards stand for."""
    return PLAN.jobs[RESULTS / wildcards.stage / wildcards.name / wildcards.key]


@cache
def as_made(directory):
    return PLAN.jobs[directory].as_made()


def upstream(wildcards):
    """Manifests of what a job reads.

    Their age means nothing, since keys say what belongs together; but to what follows its upstreams.
    """
    provide_this_machine()
    made = as_made(artefact_of(wildcards).directory)
    paths = [str(up.directory / "manifest.json") for up in made.upstream.values()]
    return (
        paths if STAGES[wildcards.stage].follows else [ancient(path) for path in paths]
    )


def told(wildcards):
    """The file that tells a stage what to build; `onstart` writes it."""
    return str(job_file(artefact_of(wildcards)))


def module_of(wildcards):
    return STAGES[wildcards.stage].module.__name__


@cache
def gpus_here():
    """GPUs of this machine."""
    return len(visible_devices())


@cache
def provide_this_machine():
    """Tell Snakemake what jobs share that run here, unless the user says how much: GPUs by slots, and main memory.

    With Slurm, what this machine has bounds nothing. So this is called by input functions: by then the executor is
    known, and the scheduler, which copies what there is, does not exist yet.
    """
    if not (workflow.is_main_process and workflow.local_exec):
        return
    here = {
        "gpu": gpus_here() * PLAN.config.resources.jobs_per_gpu,
        "mem_mb": main_memory() // 2**20,
    }
    for resource, amount in here.items():
        if resource not in workflow.global_resources:
            workflow.register_resource(resource, amount)


def resources_of(stage):
    """What a job of a stage asks for: of Slurm all of it, of a workstation GPUs and cores."""
    wanted = PLAN.config.resources.of(stage)
    memory_gib = wanted.memory_gib(PLAN.config.memory.ram_gib)

    def gpus(wildcards):
        """On this machine or, with Slurm, on another, of which only the config can know whether it has any."""
        if workflow.local_exec and not gpus_here():
            return 0
        return (1 if wanted.gpus is None else wanted.gpus) * wanted.nodes

    def memory(wildcards, attempt):
        """Of a workstation only what the config says: the usual demand is far above what small data take."""
        here = workflow.is_main_process and workflow.local_exec
        if here and wanted.mem_gib is None:
            return 0
        return int(attempt * memory_gib * 1024)

    asked = {
        "gpu": gpus,
        "mem_mb": memory,
        "runtime": lambda wildcards, attempt: attempt * wanted.runtime,
        "slurm_partition": wanted.partition,
        "slurm_account": wanted.account,
        "qos": wanted.qos,
        "constraint": wanted.constraint,
        "gpu_model": wanted.gpu_model,
        "slurm_extra": wanted.slurm_extra,
    }
    if wanted.processes > 1:
        asked |= {"nodes": wanted.nodes, "tasks": wanted.processes, "mpi": "srun"}
        if wanted.gpus:
            asked["tasks_per_gpu"] = 1
    return {name: value for name, value in asked.items() if value is not None}


def threads_of(stage):
    """Of a job; Slurm counts them for each of its processes."""
    wanted = PLAN.config.resources.of(stage)
    return lambda wildcards: wanted.threads * (
        1 if workflow.non_local_exec else wanted.processes
    )


def devices_of(wildcards, resources):
    """Options of a stage: on which devices it runs."""
    nodes = PLAN.config.resources.of(wildcards.stage).nodes
    return f"--devices {resources.get('gpu', 0) // nodes} --nodes {nodes}"


def launcher_of(wildcards):
    """What starts the processes of a training that has several; on a workstation, the first one does."""
    count = PLAN.config.resources.of(wildcards.stage).processes
    srun = (
        f"srun --kill-on-bad-exit=1 --ntasks={count} --cpu-bind=none --gpu-bind=none "
    )
    return srun if count > 1 and workflow.non_local_exec else ""


def manifest(stage):
    """The one declared output of a stage: written last, so all else is there when it is.

    update() keeps Snakemake from deleting it before the job starts: another controller on the same results
    folder may have made it since this one looked, and be reading it now. The job finds that it is whole.

    It stands for the artefacts of this config alone: another one is a target that no rule makes.
    """
    known = "|".join(f"{job.name}(?=/{job.key}/)" for job in PLAN.stage(stage))
    name = f"{{name,(?:{known or '(?!)'})}}"
    return update(
        str(RESULTS / f"{{stage,{stage}}}" / name / "{key}" / "manifest.json")
    )


def page_log(rule):
    return RESULTS / "logs" / f"{rule}-{PLAN.config.experiment}.log"


def manifests(*stages):
    """Everything that some stages have to make."""
    return [str(job.manifest) for stage in stages for job in PLAN.stage(stage)]


def in_report(job, category):
    """The file of a table or figure that the report shows, as it lies in the folder of the experiment."""
    caption = str(caption_file(PLAN, job).absolute())
    return report(update(shown_file(PLAN, job)), caption=caption, category=category)


def published(what):
    """What the report shows of the tables, or of the figures."""
    return [in_report(job, what.capitalize()) for job in reports_of(PLAN, what)]
