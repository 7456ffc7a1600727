# When a run ends: what its data lost on the way, and what failed, each in a line.
from kd.cli.status import last_error
from kd.cli.publish import notes_of
from kd.jobs.run import JOB_LOG


def say_notes():
    """What stages left out or changed: of the datasets, and of whatever this run has made."""
    made = set(to_be_made())
    for name, what, count in notes_of(
        job
        for job in PLAN.jobs.values()
        if job.stage == "prepare_dataset" or job.directory in made
    ):
        logger.warning(f"{name}: {what}: {count}")


def failures():
    """A line for each job that failed: its name, its error, and where its logs are."""
    failed = [
        each
        for job in workflow.scheduler.failed
        for each in getattr(job, "jobs", [job])
    ]
    for job in sorted(failed, key=lambda each: each.jobid):
        (log,) = job.log
        made = PLAN.jobs.get(Path(job.output[0]).parent)
        name = f"{made.stage}/{made.name}" if made else job.rule.name
        attempts = f"; of all attempts: {made.directory / JOB_LOG}" if made else ""
        yield f"{name}: {last_error(Path(log))}; log: {log}{attempts}"


onsuccess:
    say_notes()


# What is raised here is the last that Snakemake prints.
onerror:
    say_notes()
    if failed := list(failures()):
        raise Error("\n".join(failed))
