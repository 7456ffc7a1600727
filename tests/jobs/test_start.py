"""Jobs forked from a preloaded process, beside the same jobs without one: a user must not see which it was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from kd.jobs import preloaded
from kd.jobs.start import ADDRESS
from tests.conftest import ROOT
from tests.workflow.running import wait_until

STARTER = """
import os, sys, time
from kd.jobs import preloaded
(address,) = preloaded.preload({pythonpath!r}, {modules!r}).values()
print(address, flush=True)
sys.stdin.read()
"""
# What a job of the test does, by its first argument.
JOB = '''
"""A job."""
import json, os, signal, subprocess, sys, threading, time
def main():
    what = sys.argv[1]
    if what == "tell":
        mask = os.umask(0)
        os.umask(mask)
        spec = sys.modules["__main__"].__spec__.name
        print(json.dumps([sys.argv[1:], os.getcwd(), mask, os.environ["MARK"], sys.stdin.read(), spec, sys.path[0],
              os.path.basename(sys.argv[0]), __doc__, __name__, os.isatty(1), sorted(signal.pthread_sigmask(0, ())),
              repr(signal.getsignal(signal.SIGINT)), repr(signal.getsignal(signal.SIGTERM)), sys.stdout.encoding,
              repr(signal.getsignal(signal.SIGCHLD)), threading.active_count()]))
        print("aside", file=sys.stderr)
    elif what == "exit":
        sys.exit(json.loads(sys.argv[2]))
    elif what == "raise":
        raise ValueError("so")
    elif what == "die":
        os.kill(os.getpid(), int(sys.argv[2]))
    elif what == "late":
        import atexit
        atexit.register(print, "at the end")
        threading.Thread(target=lambda: (time.sleep(0.3), print("thread"))).start()
    elif what == "environment":
        import lightning_fabric, timm, torch
        print(sorted(os.environ.items()))
    elif what == "threads":
        import numpy, scipy.special, torch
        from threadpoolctl import threadpool_info
        print(torch.get_num_threads(), sorted({each["num_threads"] for each in threadpool_info()}))
    elif what == "sleep":
        if sys.argv[2] == "stubborn":
            signal.signal(signal.SIGTERM, lambda *_: os.write(1, b"asked\\n"))  # a print may not interrupt a print
        helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        print(os.getpid(), helper.pid, flush=True)
        for _ in range(600):
            time.sleep(0.1)
if __name__ == "__main__":
    main()
'''
FORKED, ALONE = "forked", "alone"


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """None is ignored, as they are by what runs in the background of a script or under nohup."""
    before = {
        number: signal.signal(number, handler)
        for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL))
    }
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the module `job` is."""
    (tmp_path / "job.py").write_text(JOB)
    return tmp_path


class Controller:
    """A process that has started a preloaded one, as Snakemake does."""

    def __init__(self, folder: Path, modules: tuple[str, ...] = ()) -> None:
        self.environment = os.environ | {"PYTHONPATH": str(ROOT), "MARK": "é\udcff", "KD_RAM_GIB": "1"}
        self.environment.pop(ADDRESS, None)
        self.folder = folder
        program = STARTER.format(pythonpath=str(ROOT), modules=modules)
        self.process = subprocess.Popen(
            [sys.executable, "-c", program],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
        )
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()

    @property
    def server(self) -> psutil.Process:
        (server,) = psutil.Process(self.process.pid).children()
        return server

    def start(self, how: str, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """A job, forked from the preloaded process or in one of its own."""
        environment = self.environment | options.pop("environment", {})
        if how == FORKED:
            environment = environment | {ADDRESS: self.address}
        return subprocess.Popen(
            [sys.executable, "-m", "kd.jobs.start", "job", *arguments],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            **options,
        )

    def run(self, how: str, *arguments: str, **options: Any) -> tuple[int, str, str]:
        running = self.start(how, *arguments, **options)
        printed, said = running.communicate("given", timeout=60)
        return running.returncode, printed, said

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()


@pytest.fixture
def controller(folder: Path) -> Iterator[Controller]:
    made = Controller(folder)
    yield made
    made.end()


def sleeping(controller: Controller, how: str, *arguments: str, **options: Any) -> tuple[Any, list[int]]:
    running = controller.start(how, "sleep", *(arguments or ("calm",)), **options)
    assert running.stdout is not None
    return running, [int(pid) for pid in running.stdout.readline().split()]


def is_running(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_job__finds_the_same_surroundings(controller: Controller) -> None:
    told = {how: controller.run(how, "tell", "a b", "", "ü", umask=0o027) for how in (FORKED, ALONE)}
    assert told[FORKED] == told[ALONE]
    status, printed, said = told[FORKED]
    assert (status, said) == (0, "aside\n")
    assert json.loads(printed)[:2] == [["tell", "a b", "", "ü"], str(controller.folder)]


@pytest.mark.parametrize(
    "arguments",
    [
        ("exit", "0"),
        ("exit", "3"),
        ("exit", "null"),
        ("exit", '"a message"'),
        ("late",),
        ("die", str(int(signal.SIGKILL))),
        ("die", str(int(signal.SIGTERM))),
        ("die", str(int(signal.SIGABRT))),
        ("die", str(int(signal.SIGINT))),
    ],
)
def test_job__ends_the_same_way(controller: Controller, arguments: tuple[str, ...]) -> None:
    forked, alone = (controller.run(how, *arguments) for how in (FORKED, ALONE))
    assert forked[:2] == alone[:2]
    assert forked[2].splitlines()[-1:] == alone[2].splitlines()[-1:]


def test_job__an_error_is_told_with_its_traceback(controller: Controller) -> None:
    for how in (FORKED, ALONE):
        status, printed, said = controller.run(how, "raise")
        assert (status, printed, said.splitlines()[-1]) == (1, "", "ValueError: so")
        assert 'job.py", line ' in said


def test_job__of_a_module_that_is_not_there(controller: Controller) -> None:
    for how in (FORKED, ALONE):
        running = subprocess.run(
            [sys.executable, "-m", "kd.jobs.start", "nothing_here"],
            env=controller.environment | ({ADDRESS: controller.address} if how == FORKED else {}),
            capture_output=True,
            text=True,
            check=False,
        )
        assert running.returncode == 1
        assert "No module named nothing_here" in running.stderr


@pytest.mark.parametrize("how", [FORKED, ALONE])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_signal__to_the_process_that_was_started_ends_the_job(
    controller: Controller, how: str, number: signal.Signals
) -> None:
    """With its helpers, where the job is forked and is interrupted or killed."""
    running, (job, helper) = sleeping(controller, how)
    running.send_signal(number)
    assert running.wait(10) == -number
    wait_until(lambda: not is_running(job), 5, "the job lives on")
    if how == FORKED and number in (signal.SIGINT, signal.SIGKILL):
        wait_until(lambda: not is_running(helper), 5, "its helper lives on")
    else:
        os.kill(helper, signal.SIGKILL)
    running.communicate()


@pytest.mark.parametrize("how", [FORKED, ALONE])
def test_signal__that_is_ignored_as_under_nohup_stays_so(folder: Path, how: str) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    controller = Controller(folder)
    running, (job, helper) = sleeping(controller, how)
    running.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        running.wait(0.5)
    assert is_running(job)
    running.kill()
    wait_until(lambda: not is_running(job), 5, "the job lives on")
    if how == ALONE:
        os.kill(helper, signal.SIGKILL)
    running.communicate()
    controller.end()


@pytest.mark.parametrize("how", [FORKED, ALONE])
def test_signal__the_job_may_answer_it(controller: Controller, how: str) -> None:
    running, (job, helper) = sleeping(controller, how, "stubborn")
    for _ in range(2):
        running.send_signal(signal.SIGTERM)
        assert running.stdout.readline() == "asked\n"
    assert running.poll() is None
    os.killpg(job, signal.SIGABRT) if how == FORKED else running.send_signal(signal.SIGABRT)
    assert running.wait(10) == -signal.SIGABRT
    if how == ALONE:
        os.kill(helper, signal.SIGKILL)
    running.communicate()


def test_signal__a_job_is_suspended_and_goes_on(controller: Controller) -> None:
    running, (job, helper) = sleeping(controller, FORKED)
    running.send_signal(signal.SIGTSTP)
    stopped = psutil.STATUS_STOPPED
    for pid in (running.pid, job, helper):
        wait_until(lambda pid=pid: psutil.Process(pid).status() == stopped, 5, "not suspended")  # type: ignore[misc]
    running.send_signal(signal.SIGCONT)
    for pid in (running.pid, job, helper):
        wait_until(lambda pid=pid: psutil.Process(pid).status() != stopped, 5, "not continued")  # type: ignore[misc]
    running.kill()
    running.communicate()


def test_server__killed_takes_its_jobs_along_and_says_so(controller: Controller) -> None:
    running, (job, helper) = sleeping(controller, FORKED)
    controller.server.kill()
    _, said = running.communicate(timeout=10)
    assert running.returncode == 1
    assert said == "error: the process that this job was forked from has ended; run again\n"
    wait_until(lambda: not is_running(job) and not is_running(helper), 5, "the job lives on")
    assert controller.run(FORKED, "exit", "4")[0] == 4  # without it


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, None])
def test_server__ends_with_its_controller_and_lets_jobs_end(
    controller: Controller, number: signal.Signals | None
) -> None:
    server = controller.server
    running, (job, helper) = sleeping(controller, FORKED)
    if number is None:
        assert controller.process.stdin is not None
        controller.process.stdin.close()
    else:
        controller.process.send_signal(number)
    controller.process.wait(10)
    time.sleep(0.5)
    assert is_running(server.pid)
    assert is_running(job)
    assert controller.run(FORKED, "exit", "4")[0] == 4  # not by this server, which takes no more
    os.kill(helper, signal.SIGKILL)
    os.kill(job, signal.SIGKILL)
    assert running.wait(10) == -signal.SIGKILL
    running.communicate()
    wait_until(lambda: not is_running(server.pid), 5, "the server lives on")


def test_server__many_at_once(controller: Controller) -> None:
    running = [controller.start(FORKED, "exit", str(code)) for code in range(20)]
    assert [each.wait(30) for each in running] == list(range(20))
    wait_until(lambda: not controller.server.children(), 5, "children are left")
    assert controller.server.num_fds() < 15
    for each in running:
        each.communicate()


@pytest.mark.parametrize(
    "environment", [{"PYTHONPATH": f"{ROOT}:/elsewhere"}, {"HF_HUB_OFFLINE": "1"}, {"OMP_WAIT_POLICY": "active"}]
)
def test_job__of_another_environment_has_a_process_of_its_own(
    controller: Controller, environment: dict[str, str]
) -> None:
    """Packages read it when they are imported."""
    server = controller.server
    running, (job, own_helper) = sleeping(controller, FORKED, environment=environment)
    assert psutil.Process(job).ppid() != server.pid
    assert running.pid == job
    other, (forked, forked_helper) = sleeping(
        controller, FORKED, environment={"KD_DEVICE_GIB": "3", "OMP_NUM_THREADS": "1"}
    )
    assert psutil.Process(forked).ppid() == server.pid
    for each, helper in ((running, own_helper), (other, forked_helper)):
        each.kill()
        os.kill(helper, signal.SIGKILL)
        each.communicate()


def test_job__with_packages_that_were_imported_before_it(folder: Path) -> None:
    """It uses as many threads as it is told, and packages that have set variables have set them for it."""
    controller = Controller(folder, ("torch", "timm", "lightning_fabric", "threadpoolctl"))
    told = {
        how: controller.run(how, "environment", environment={ADDRESS: controller.address}) for how in (FORKED, ALONE)
    }
    assert told[FORKED] == told[ALONE]
    assert told[FORKED][0] == 0
    assert "PYTORCH_NVML_BASED_CUDA_CHECK" in told[FORKED][1]
    for threads in ("1", "3"):
        environment = {f"{name}_NUM_THREADS": threads for name in ("OMP", "GOTO", "OPENBLAS", "MKL")}
        forked, alone = (controller.run(how, "threads", environment=environment) for how in (FORKED, ALONE))
        assert forked == alone
        assert forked[0] == 0
    controller.end()


IMPORTING = """
import importlib, pkgutil, sys, threading
from kd.jobs import preloaded
for name in preloaded.PRELOADED:
    importlib.import_module(name)
before = {name.split(".")[0] for name in sys.modules}
for package in ("kd.data", "kd.models", "kd.embeddings", "kd.distillers", "kd.training", "kd.jobs"):
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
        importlib.import_module(module.name)
importlib.import_module("kd.reporting.drawing")
new = {name.split(".")[0] for name in sys.modules} - before - set(sys.stdlib_module_names)
print(sorted(new), threading.active_count(), sys.modules["torch"].cuda.is_initialized())
"""


def test_preload__imports_what_jobs_do_and_nothing_that_does_not_survive_a_fork() -> None:
    """Neither threads of Python nor CUDA do."""
    done = subprocess.run([sys.executable, "-c", IMPORTING], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stdout == "[] 1 False\n", done.stderr


def test_preload__takes_the_process_that_there_is(controller: Controller, monkeypatch: pytest.MonkeyPatch) -> None:
    before = psutil.Process().children()
    monkeypatch.setenv(ADDRESS, controller.address)
    assert preloaded.preload(str(ROOT)) == {}
    assert psutil.Process().children() == before
