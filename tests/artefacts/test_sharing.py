"""Two people and one results folder: what one of a group writes, the other may read, go on with and remove."""

from __future__ import annotations

import os
import stat
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from kd.artefacts.disk import disk_errors, share
from kd.artefacts.lock import remove_directories
from kd.artefacts.manifest import read_manifest
from kd.common.errors import UserError
from kd.jobs.run import run_job
from kd.models.weight_files import load_safetensors, save_tensors
from tests.artefacts.building import Spec, job, refuse, write

ANN, BOB, GROUP = 54321, 54322, 54323

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # the child starts no thread
root_only = pytest.mark.skipif(os.getuid() != 0, reason="only root can be two users")


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A results folder of a group."""
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o011)
    results = tmp_path / "results"
    results.mkdir()
    os.chown(results, ANN, GROUP)
    results.chmod(0o2775)
    return results


def as_user(user: int, umask: int, do: Callable[[], object]) -> str:
    """Do it in a process of a user; what went wrong, or \"\"."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([GROUP])
            os.setgid(GROUP)
            os.setuid(user)
            os.umask(umask)
            do()
        except UserError as error:
            os.write(writing, f"error: {error}".encode())
        except BaseException:  # noqa: BLE001 - told to the parent
            os.write(writing, traceback.format_exc().encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as stream:
        return stream.read()


@root_only
@pytest.mark.parametrize("umasks", [(0o077, 0o077), (0o022, 0o002), (0o002, 0o077)])
def test_share__one_goes_on_with_and_removes_what_another_made(shared: Path, umasks: tuple[int, int]) -> None:
    first, second = job(shared, "first"), job(shared, "second")
    assert as_user(ANN, umasks[0], lambda: run_job(first, Spec(text="x"), write)) == ""
    assert "AssertionError" in as_user(ANN, umasks[0], lambda: run_job(second, Spec(text="x"), refuse))
    assert as_user(BOB, umasks[1], lambda: read_manifest(first)) == ""
    assert as_user(BOB, umasks[1], lambda: run_job(first, Spec(text="x"), refuse)) == ""
    assert as_user(BOB, umasks[1], lambda: run_job(second, Spec(text="x"), write)) == ""
    assert as_user(ANN, umasks[0], lambda: run_job(second, Spec(text="x"), refuse)) == ""
    assert as_user(BOB, umasks[1], lambda: remove_directories([first.directory])) == ""
    assert not first.directory.exists()
    for path in shared.rglob("*"):
        assert path.stat().st_gid == GROUP
        assert path.stat().st_mode & stat.S_IWGRP


@root_only
@pytest.mark.parametrize("umask", [0o077, 0o027])
def test_share__a_folder_that_is_not_shared_is_one_clear_error(shared: Path, umask: int) -> None:
    """Nothing is lost or mixed, and it says what to do."""
    made = job(shared)
    shared.chmod(0o775)
    assert as_user(ANN, umask, lambda: run_job(made, Spec(text="x"), write)) == ""

    def remove() -> None:
        with disk_errors(shared):  # as every command has it
            remove_directories([made.directory])

    for use in (lambda: run_job(made, Spec(text="x"), write), remove):
        said = as_user(BOB, 0o002, use)
        assert said.startswith(f"error: {shared}")
        assert ": permission denied; check its owner and mode" in said
        assert "`chmod g+ws`" in said
    assert as_user(ANN, umask, lambda: run_job(made, Spec(text="x"), refuse)) == ""


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize(("mode", "expected"), [(0o2775, 0o007), (0o2755, 0o077), (0o775, 0o077), (0o2770, 0o007)])
def test_share__only_where_the_folder_says_so(tmp_path: Path, mode: int, expected: int) -> None:
    tmp_path.chmod(mode)
    share(tmp_path / "results")
    assert os.umask(0o077) == expected


@root_only
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_weights__of_one_are_read_by_the_other(shared: Path, umask: int) -> None:
    """safetensors writes to a temporary file of its own, which none but its owner may read."""
    path = shared / "weights.safetensors"

    def save() -> None:
        share(shared)
        save_tensors(path, {"weight": torch.zeros(2)})

    assert as_user(ANN, umask, save) == ""
    assert as_user(BOB, umask, lambda: load_safetensors(path)) == ""
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~(umask & ~0o070)
