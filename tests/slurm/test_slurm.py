"""The workflow through a real Slurm: from start to end, and whatever may happen to jobs and to the controller."""

from __future__ import annotations

import copy
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kd.artefacts.job import Job
from kd.artefacts.lock import WRITER, current_writer
from kd.config.load import load_config
from kd.jobs.run import JOB_LOG
from kd.planning.plan import Plan
from kd.training.loop import CHECKPOINT
from tests.conftest import ROOT
from tests.workflow.running import wait_until

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("slurm")]

START_SECONDS = 240  # until a job that was submitted trains
STOP_SECONDS = 240  # until a controller ends after Ctrl-C: at its next look at the queue, in 3 minutes at worst

controllers: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def _stop_controllers() -> Iterator[None]:
    """A test that fails leaves nothing that goes on submitting jobs."""
    # What shells start in the background ignores Ctrl-C, and so would the controllers.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for run in controllers:
        if run.poll() is None:
            run.send_signal(signal.SIGINT)
            run.wait(timeout=STOP_SECONDS)
    controllers.clear()


def controller(
    folder: Path, config: dict[str, Any], *targets: str, options: tuple[str, ...] = ()
) -> subprocess.Popen[str]:
    """Start Snakemake; its output goes into a file of the folder."""
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    command += ["--workflow-profile", str(ROOT / "workflow/profiles/slurm"), "--directory", str(folder)]
    command += ["--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "5", *options]
    command += ["--configfile", str(folder / "config.yaml"), "--", *targets]
    with (folder / "controller.log").open("a") as log:
        run = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, text=True, cwd=ROOT)
    controllers.append(run)
    return run


def said(folder: Path) -> str:
    return (folder / "controller.log").read_text()


def plan_of(folder: Path, config: dict[str, Any]) -> Plan:
    return Plan(load_config(config | {"results": str(folder / config.get("results", "results"))}))


def log_of(job: Job) -> str:
    path = job.directory / JOB_LOG
    return path.read_text() if path.is_file() else ""


def attempts(job: Job) -> int:
    """How many have made a step; before that, a job that is stopped just ends."""
    return sum(bool(re.search(r" step \d+/", attempt)) for attempt in log_of(job).split("running on")[1:])


def queued() -> list[str]:
    """Numbers of the jobs that Slurm has."""
    listed = subprocess.run(["squeue", "--noheader", "--format", "%i"], capture_output=True, text=True, check=True)
    return listed.stdout.split()


def slurm_job(job: Job) -> str:
    """Number of the Slurm job that is making an artefact."""
    found: list[str] = []

    def find() -> bool:
        claim = job.directory / WRITER
        found[:] = re.findall(r'"slurm_job": ?"(\d+)"', claim.read_text()) if claim.is_file() else []
        return bool(found)

    wait_until(find, START_SECONDS, f"{job.name} does not start")
    return found[0]


@pytest.fixture
def tiny_slurm(tiny: dict[str, Any]) -> dict[str, Any]:
    return tiny | {"resources": {"all": {"mem_gib": 2, "runtime": 10}}, "memory": {"ram_gib": 0.5}}


def teachers(tiny: dict[str, Any], epochs: int, seeds: int) -> dict[str, Any]:
    """A config of some teachers, of which one epoch takes a tenth of a second."""
    config = copy.deepcopy(tiny)
    config["recipes"]["network"] |= {"epochs": epochs}
    config["seeds"] = list(range(seeds))
    config["teachers"] = {"digits_resnet": config["teachers"]["digits_resnet"]}
    config["datasets"] = {"digits": config["datasets"]["digits"]}
    config["models"] = {"resnet": config["models"]["resnet"]}
    return config | {"joint_teachers": {}, "students": {}, "baselines": {}}


def test_slurm__from_start_to_end(tmp_path: Path, tiny_slurm: dict[str, Any]) -> None:
    tiny_slurm["datasets"] = {"digits": tiny_slurm["datasets"]["digits"]}
    for section, name in (("joint_teachers", "joint_l2"), ("students", "mlfd_l2")):
        tiny_slurm[section] = {name: tiny_slurm[section][name]}
    tiny_slurm["teachers"]["mnist5k_byobnet"]["dataset"] = "digits"
    tiny_slurm["baselines"] = {}
    tiny_slurm["resources"]["train_joint_teacher"] = {"gpus": 2}
    run = controller(tmp_path, tiny_slurm, "all", "report")
    assert run.wait(timeout=900) == 0, said(tmp_path)
    assert (tmp_path / "results/experiments/tiny/report.html").is_file()
    jobs = plan_of(tmp_path, tiny_slurm).run().jobs.values()
    assert len({job.stage for job in jobs}) == 6
    for job in jobs:
        if job.stage == "train_joint_teacher":  # one training by two processes that srun started
            assert re.search(r"GPU \d, \d\n", log_of(job))
        elif job.stage != "prepare_dataset":  # a pretended GPU, that Slurm chose
            assert re.search(r"GPU \d\n", log_of(job))
    again = controller(tmp_path, tiny_slurm, "all", "report")
    assert again.wait(timeout=120) == 0
    assert "Nothing to be done" in said(tmp_path)


def test_slurm__a_job_that_fails_is_named_with_its_error(tmp_path: Path, tiny_slurm: dict[str, Any]) -> None:
    tiny_slurm["recipes"]["network"] |= {"lr": 1e12, "optimizer": "sgd", "schedule": "constant"}
    tiny_slurm["teachers"] = {"digits_resnet": tiny_slurm["teachers"]["digits_resnet"]}
    tiny_slurm |= {"joint_teachers": {}, "students": {}, "baselines": {}}
    run = controller(tmp_path, tiny_slurm, "teachers", options=("--retries", "0"))
    assert run.wait(timeout=600) == 1
    assert "error: loss is" in said(tmp_path)
    assert "lower recipe lr" in said(tmp_path)


def test_slurm__jobs_that_are_cancelled_requeued_and_out_of_time_go_on(
    tmp_path: Path, tiny_slurm: dict[str, Any]
) -> None:
    """By themselves, each at its last step. They take longer than the test, which cancels them in the end."""
    config = teachers(tiny_slurm, epochs=100_000, seeds=2)
    config["resources"]["train_teacher"] = {"runtime": 1}
    run = controller(tmp_path, config, "teachers")
    stopped, out_of_time = plan_of(tmp_path, config).stage("train_teacher")
    for times, command in enumerate(("scancel", "scontrol requeue")):
        wait_until(lambda: attempts(stopped) > times, START_SECONDS, "no attempt")  # noqa: B023
        subprocess.run([*command.split(), slurm_job(stopped)], check=True)
        wait_until(lambda: log_of(stopped).count("stopped by SIGTERM") > times, 120, log_of(stopped))  # noqa: B023
        assert (stopped.directory / CHECKPOINT).is_file()
    for job, times in ((stopped, 2), (out_of_time, 1)):
        wait_until(lambda: log_of(job).count("continuing in epoch") >= times, 600, log_of(job))  # noqa: B023
        assert log_of(job).count("stopped by SIGTERM") >= times
    run.kill()  # else it would submit them again; after Ctrl-C, which another test presses, it takes minutes to end
    run.wait()
    submitted = re.findall(r"submitted with SLURM jobid (\d+)", said(tmp_path))
    subprocess.run(["scancel", *submitted], check=False)  # some have ended
    assert submitted
    wait_until(lambda: not {*submitted} & {*queued()}, 60, "a job is still there")
    wait_until(lambda: not current_writer(stopped.directory), 60, "the job is still there")


def test_slurm__a_controller_that_ended_is_started_again(tmp_path: Path, tiny_slurm: dict[str, Any]) -> None:
    """Ctrl-C: jobs are cancelled, and go on later. Killed: jobs run on, and are not made twice."""
    config = teachers(tiny_slurm, epochs=300, seeds=1)
    (job,) = plan_of(tmp_path, config).stage("train_teacher")
    for times, number in enumerate((signal.SIGINT, signal.SIGKILL)):
        run = controller(tmp_path, config, "teachers")
        wait_until(lambda: attempts(job) > times, START_SECONDS, "no attempt")  # noqa: B023
        submitted = slurm_job(job)
        os.kill(run.pid, number)
        assert run.wait(timeout=STOP_SECONDS) != 0
        if number == signal.SIGINT:
            wait_until(lambda: submitted not in queued(), 60, "the job is still there")  # noqa: B023
            assert "stopped by SIGTERM" in log_of(job)
    again = controller(tmp_path, config, "teachers")
    assert again.wait(timeout=600) == 0, said(tmp_path)
    assert job.manifest.is_file()
    assert log_of(job).count("done in") == 1
    assert log_of(job).count("continuing") == 1
