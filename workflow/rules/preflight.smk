# Before any job is started: is there room for what this run will make, and can it be made at all?
import os
import subprocess
import sys

from snakemake.logging import logger


def to_be_made():
    """Directories of the artefacts that this run will make."""
    outputs = (path for job in workflow.dag.needrun_jobs() for path in job.output)
    return [
        each for each in {Path(path).parent for path in outputs} if each in PLAN.jobs
    ]


def preflight(directories):
    """Refuse what does not fit, in a process of its own: it may need torch, which this one never loads."""
    paths = [str(workflow.basedir), os.environ.get("PYTHONPATH")]
    done = subprocess.run(
        [sys.executable, "-m", "kd.commands.preflight"],
        input=json.dumps(
            {
                "config": json.loads(CONFIG_JSON),
                "directories": [str(each) for each in directories],
            }
        ),
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise WorkflowError(done.stderr.strip().removeprefix("error: "))
    logger.info(done.stdout.strip())


def check_devices(stages):
    """Refuse jobs that want more than this machine, which runs them, has."""
    for stage in sorted(stages):
        wanted, key = PLAN.config.resources.of(stage), f"config: resources.{stage}"
        if wanted.nodes > 1:
            raise WorkflowError(
                f"{key}.nodes: {wanted.nodes}, expected 1 on a workstation; several take workflow/profiles/slurm"
            )
        if (wanted.gpus or 0) > gpus_here():
            raise WorkflowError(
                f"{key}.gpus: {wanted.gpus}, expected at most {gpus_here()}, as many as this machine has;"
                " null takes one if there is any, 0 the CPU"
            )


# Not in dry runs, and not in the processes that Snakemake starts for single jobs: they get --no-hooks.
onstart:
    if not workflow.touch and (directories := to_be_made()):
        if workflow.local_exec:
            check_devices({PLAN.jobs[each].stage for each in directories})
        preflight(directories)
        if workflow.local_exec and not gpus_here():
            logger.info("No GPU found: everything runs on the CPU.")
