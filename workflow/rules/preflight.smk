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


# Not in dry runs, and not in the processes that Snakemake starts for single jobs: they get --no-hooks.
onstart:
    if not workflow.touch and (directories := to_be_made()):
        preflight(directories)
        if workflow.local_exec and not visible_devices():
            logger.info("No GPU found: everything runs on the CPU.")
