# Before any job is started: is there room for what this run will make, and can it be made at all?
import json
import os
import subprocess
import sys

from snakemake.logging import logger

from kd.cli.records import other_owner, record_run
from kd.jobs.handover import hand_over
from kd.jobs.preloaded import preload
from kd.artefacts.disk import share


def to_be_made():
    """Directories of the artefacts that this run makes."""
    jobs = workflow.dag.needrun_jobs(exclude_finished=False)
    outputs = (path for job in jobs for path in job.output)
    return [
        each for each in {Path(path).parent for path in outputs} if each in PLAN.jobs
    ]


def preflight(directories):
    """Refuse what does not fit, in a process of its own: it may need torch, which this one never loads."""
    done = subprocess.run(
        [sys.executable, "-m", "kd.jobs.start", "kd.cli.forecast"],
        input=json.dumps(
            {
                "config": PLAN.config.model_dump(mode="json"),
                "directories": [str(each) for each in directories],
            }
        ),
        env=os.environ | {"PYTHONPATH": PYTHONPATH},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise Error(done.stderr.strip().removeprefix("error: "))
    logger.info(done.stdout.strip())


def check_devices(stages):
    """Refuse jobs that want more than this machine, which runs them, has."""
    for stage in sorted(stages):
        wanted, key = PLAN.config.resources.of(stage), f"config: resources.{stage}"
        if wanted.nodes > 1:
            raise Error(
                f"{key}.nodes: {wanted.nodes}, expected 1 on a workstation; several take workflow/profiles/slurm"
            )
        if (wanted.gpus or 0) > gpus_here():
            raise Error(
                f"{key}.gpus: {wanted.gpus}, expected at most {gpus_here()}, as many as this machine has;"
                " null takes one if there is any, 0 the CPU"
            )


def say_whose_tables_go():
    """Two people may call their experiments the same; the later tables replace the earlier ones."""
    owner = other_owner(PLAN.folder, CONFIGFILE)
    if owner is not None and "publish_tables" in {
        job.rule.name for job in workflow.dag.needrun_jobs()
    }:
        logger.warning(
            f"config: experiment: {PLAN.config.experiment}: its tables and figures are those of {owner}, and will be"
            f" replaced; give this one another name to keep both"
        )


def hand_over_jobs(directories):
    """Write what the jobs of this run read."""
    hand_over(CONFIG_FILE, config_json(PLAN))
    for job in (PLAN.jobs[directory] for directory in directories):
        hand_over(job_file(job), job.model_dump_json())


# Not in dry runs, and not in the processes that Snakemake starts for single jobs: they get --no-hooks.
onstart:
    if not workflow.touch:
        directories = to_be_made()
        if directories and workflow.local_exec:
            check_devices({PLAN.jobs[each].stage for each in directories})
        if directories:
            share(RESULTS)  # inherited by whatever is started from here
        for_jobs = {}
        if directories and workflow.local_exec and PLAN.config.resources.preload:
            for_jobs = preload(
                PYTHONPATH
            )  # while preflight, which is to be quick, imports what it needs by itself
        if directories:
            preflight(directories)
        os.environ.update(for_jobs)
        say_whose_tables_go()
        try:
            # Ahead of the jobs: where results are shared, they inherit from here that their group may write.
            record_run(PLAN, CONFIGFILE)
            hand_over_jobs(directories)
        except UserError as error:
            raise Error(str(error)) from None
        if directories and workflow.local_exec and not gpus_here():
            logger.info("No GPU found: everything runs on the CPU.")
