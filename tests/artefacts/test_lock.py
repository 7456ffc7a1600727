"""One writer per directory: on one host by flock, between hosts by heartbeat."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kd.artefacts import lock
from kd.artefacts.lock import BeingWrittenError, Writer, current_writer, writing
from tests.conftest import ROOT

CLAIM = Writer(host="elsewhere", pid=7, slurm_job="42", since="2026-01-01 00:00:00", token="t")


PROGRAM = """
import sys
from pathlib import Path
from kd.artefacts.lock import writing
with writing(Path(sys.argv[1])):
    print("mine")
"""
WAITER = [sys.executable, "-c", PROGRAM]


def claim(directory: Path, age: float, writer: Writer = CLAIM) -> Path:
    """A `.writer` whose last heartbeat is so many seconds ago."""
    directory.mkdir(exist_ok=True)
    path = directory / ".writer"
    path.write_text(writer.model_dump_json())
    os.utime(path, (time.time() - age,) * 2)
    return path


def hold(directory: Path, held: multiprocessing.synchronize.Event) -> None:
    with writing(directory):
        held.set()
        time.sleep(60)


def test_writing__one_at_a_time_and_freed_by_kill(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    holder = context.Process(target=hold, args=(tmp_path, held))
    holder.start()
    assert held.wait(30)
    assert str(holder.pid) in str(current_writer(tmp_path))
    said = f"is being written by {socket.gethostname()}, process {holder.pid}"
    with pytest.raises(BeingWrittenError, match=said), writing(tmp_path, wait=False):
        pass
    waiter = subprocess.Popen([*WAITER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    with pytest.raises(subprocess.TimeoutExpired):
        waiter.wait(timeout=1.5)
    assert holder.pid is not None
    os.kill(holder.pid, signal.SIGKILL)
    assert waiter.communicate(timeout=30)[0] == "mine\n"
    holder.join()
    assert current_writer(tmp_path) is None
    assert not (tmp_path / ".writer").exists()


APPEND = """
import sys, time
from pathlib import Path
from kd.artefacts.lock import writing
for _ in range(20):
    with writing(Path(sys.argv[1])):
        path = Path(sys.argv[1]) / "count"
        value = int(path.read_text()) if path.exists() else 0
        time.sleep(0.002)
        path.write_text(str(value + 1))
"""


def test_writing__two_processes_never_at_once(tmp_path: Path) -> None:
    racing = [subprocess.Popen([sys.executable, "-c", APPEND, str(tmp_path)], cwd=ROOT) for _ in range(2)]
    assert [each.wait(60) for each in racing] == [0, 0]
    assert (tmp_path / "count").read_text() == "40"


def test_writing__waits_for_another_host_that_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = claim(tmp_path, age=5)
    assert current_writer(tmp_path) == "elsewhere, process 7, Slurm job 42, since 2026-01-01 00:00:00"
    with pytest.raises(BeingWrittenError, match="elsewhere, process 7"), writing(tmp_path, wait=False):
        pass
    polls: list[float] = []

    def sleep(seconds: float) -> None:
        polls.append(seconds)
        if len(polls) == 3:
            path.unlink()  # it is done

    monkeypatch.setattr(time, "sleep", sleep)
    with caplog.at_level("INFO", "kd"), writing(tmp_path):
        assert json.loads(path.read_text())["host"] == socket.gethostname()
    assert len(polls) == 3
    assert caplog.text.count("is being written by elsewhere") == 1


@pytest.mark.parametrize(
    "writer", [CLAIM, Writer(host=socket.gethostname(), pid=1, slurm_job=None, since="long ago", token="u")]
)
def test_writing__takes_over_from_the_dead(tmp_path: Path, writer: Writer, caplog: pytest.LogCaptureFixture) -> None:
    """Another host: when its heart stopped beating; this host: at once, since it does not hold the flock."""
    claim(tmp_path, age=500 if writer is CLAIM else 1, writer=writer)
    assert current_writer(tmp_path) is None
    with caplog.at_level("INFO", "kd"), writing(tmp_path):
        assert "taking over" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_writing__by_heartbeat_alone_where_there_is_no_flock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    with writing(tmp_path):
        assert str(os.getpid()) in str((tmp_path / ".writer").read_text())
        with pytest.raises(BeingWrittenError), writing(tmp_path, wait=False):
            pass


def test_remove_stale__puts_back_a_claim_that_is_not_the_stale_one(tmp_path: Path) -> None:
    path = claim(tmp_path, age=500)
    stale = lock._read(path)
    assert stale is not None
    os.utime(path)  # it came back to life
    lock._remove_stale(path, stale)
    assert [each.name for each in tmp_path.iterdir()] == [".writer"]
    found = lock._read(path)
    assert found is not None
    assert found.writer == CLAIM


def test_writing__beats_and_ends_the_process_that_lost_its_claim(tmp_path: Path) -> None:
    program = (
        "import logging, sys, time; from pathlib import Path; from kd.artefacts import lock\n"
        "logging.basicConfig()\nlock.BEAT_SECONDS = 0.1\n"
        "with lock.writing(Path(sys.argv[1])):\n"
        "    print('mine', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    holder = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "mine\n"
    path = tmp_path / ".writer"
    before = path.stat().st_mtime_ns
    deadline = time.monotonic() + 20
    while path.stat().st_mtime_ns == before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert path.stat().st_mtime_ns > before
    claim(tmp_path, age=0)
    assert holder.wait(20) == 1
    assert "another process took over this directory; this one ends" in holder.communicate()[1]
    assert json.loads(path.read_text())["host"] == "elsewhere"


def test_writing__waits_out_the_removal_of_the_directory(tmp_path: Path) -> None:
    directory = tmp_path / "artefact"
    waiter = None
    with writing(directory):
        waiter = subprocess.Popen([*WAITER, str(directory)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        with pytest.raises(subprocess.TimeoutExpired):
            waiter.wait(timeout=1.5)
        shutil.rmtree(directory)
    assert waiter.communicate(timeout=30)[0] == "mine\n"
    assert directory.is_dir()
