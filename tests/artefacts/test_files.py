"""Files are wholly there or not at all; failing disks are told in one line."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kd.artefacts.disk import explain
from kd.artefacts.files import replacing
from kd.common.errors import UserError
from kd.jobs.run import run_job
from tests.artefacts.building import Spec, job
from tests.conftest import ROOT


def test_replacing__shows_the_file_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("old")
    with replacing(path) as partial:
        partial.write_text("new")
        assert partial.parent == tmp_path
        assert partial.name.startswith(".a.csv.")
        assert partial.suffix == ".partial"
        with replacing(path) as another:  # two writers at once
            assert another != partial
            another.write_text("newer")
        assert path.read_text() == "newer"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_replacing__a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("old")

    def fail() -> None:
        with replacing(path) as partial:
            partial.write_text("ne")
            raise OSError(errno.ENOSPC, "full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM])
def test_run_job__a_failing_disk_is_a_users_matter(tmp_path: Path, number: int) -> None:
    made = job(tmp_path)

    def build(_: object) -> None:
        try:
            raise OSError(number, "some text", "weights.bin")
        except OSError as error:
            raise RuntimeError("deep in a library") from error

    with pytest.raises(UserError) as caught:
        run_job(made, Spec(text="x"), build)  # type: ignore[arg-type]
    text = str(caught.value)
    assert text.startswith(f"weights.bin: {os.strerror(number).lower()}; ")
    assert text.endswith("what was finished is kept: run the same command again")


def test_explain__names_the_folder_where_no_file_is_known(tmp_path: Path) -> None:
    assert str(explain(OSError(errno.ENOSPC, "full"), tmp_path)).startswith(
        f"{tmp_path}: no space left on device; free"
    )
    assert explain(OSError(errno.ENOENT, "missing"), tmp_path) is None
    assert explain(ValueError("bad"), tmp_path) is None


def raised(how: Callable[[], object]) -> BaseException:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever it is
        how()
    return caught.value


def while_handling(error: Exception, other: Exception) -> Callable[[], None]:
    def fail() -> None:
        try:
            raise error
        except type(error):
            raise other  # noqa: B904 - that is the case

    return fail


def caused(error: Exception, other: Exception) -> Callable[[], None]:
    def fail() -> None:
        raise other from error

    return fail


NO_SPACE, DENIED = OSError(errno.ENOSPC, "full"), PermissionError(errno.EACCES, "no", "a.txt")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (while_handling(DENIED, KeyError("x")), False),
        (while_handling(NO_SPACE, ValueError("bad")), False),
        (while_handling(DENIED, RuntimeError("bad")), False),
        (while_handling(KeyError("x"), RuntimeError("PytorchStreamWriter failed writing file")), False),
        (while_handling(NO_SPACE, RuntimeError("unexpected pos 704 vs 598")), True),
        (caused(DENIED, KeyError("x")), True),
        (caused(NO_SPACE, RuntimeError("PytorchStreamWriter failed writing file")), True),
    ],
)
def test_explain__only_what_a_disk_is_the_cause_of(error: Callable[[], None], told: bool, tmp_path: Path) -> None:
    """What came up in another error's handler has a cause of its own; torch's writer fails for other reasons, too."""
    assert (explain(raised(error), tmp_path) is not None) == told


FULL = {
    "torch": "import torch; stream = open('/dev/full', 'wb'); torch.save(torch.zeros(1 << 18), stream)",
    "file": "stream = open('/dev/full', 'w'); stream.write('x'); stream.close()",
    "text": "raise ValueError('Error while serializing: I/O error: No space left on device (os error 28)')",
}


@pytest.mark.parametrize("how", FULL)
def test_user_errors__a_full_disk_is_one_line(how: str, tmp_path: Path) -> None:
    program = f"from kd.jobs.run import user_errors\nwith user_errors():\n    {FULL[how]}"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "no space left on device" in done.stderr
    assert "Traceback" not in done.stderr
