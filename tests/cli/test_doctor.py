"""The doctor: each finding is a line with what to do, and an error is an exit code."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from kd.cli import doctor as commands
from kd.cli.doctor import Finding, doctor
from kd.config.load import load_config
from kd.planning.plan import Plan
from tests.conftest import ROOT


@pytest.fixture
def plan(tiny: dict[str, Any], tmp_path: Path) -> Plan:
    return Plan(load_config(tiny | {"results": str(tmp_path / "results")}))


def texts(found: list[Finding], state: str) -> str:
    return "\n".join(finding.text for finding in found if finding.state == state)


def test_doctor__this_environment_is_fit(tiny: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(tiny | {"results": str(tmp_path / "results")}))
    started = time.monotonic()
    command = [sys.executable, "-m", "kd", "doctor", "--configfile", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert time.monotonic() - started < 30  # seconds, where nothing else runs
    assert "packages in the versions that are pinned" in done.stdout
    assert f"{tmp_path} can be written to" in done.stdout
    assert not (tmp_path / "results").exists()  # it only looks


def test_doctor__other_versions_and_missing_packages(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs/requirements.txt").write_text("numpy==0.0.1\nno-such-package==1.0\n")
    monkeypatch.setattr(commands, "ROOT", tmp_path)
    found = list(doctor(plan))
    assert "numpy" in texts(found, "warning")
    assert "not installed: no-such-package; pip install" in texts(found, "error")


def test_doctor__of_an_installed_package_has_no_pins_to_compare_with(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(commands, "ROOT", tmp_path)
    monkeypatch.setattr("importlib.metadata.version", lambda _name: "0.9")
    assert "kd 0.9, installed as a package" in texts(list(doctor(plan)), "ok")


def test_doctor__little_space_and_no_permission(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "LITTLE_SPACE", 1 << 62)

    def refuse(*_arguments: Any, **_options: Any) -> None:
        raise PermissionError(13, "no")

    monkeypatch.setattr("tempfile.TemporaryDirectory", refuse)
    found = list(doctor(plan))
    assert "python -m kd forecast" in texts(found, "warning")
    assert "set `results` to another folder" in texts(found, "error")


def test_doctor__a_gpu_that_torch_cannot_use(plan: Plan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "nvidia/gpus/0000:01:00.0").mkdir(parents=True)
    (tmp_path / "nvidia/version").write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.1  Mon\n")
    monkeypatch.setattr(commands, "DRIVER", tmp_path / "nvidia/gpus")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "driver 550.1 with 1 GPUs" in texts(list(doctor(plan)), "error")


@pytest.mark.parametrize(("answers", "expected"), [(True, "ok"), (False, "warning")])
def test_doctor__slurm(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answers: bool, expected: str
) -> None:
    for name in ("sbatch", "sinfo"):
        script = tmp_path / name
        script.write_text("#!/bin/sh\necho lab\n" if answers else "#!/bin/sh\nexit 1\n")
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert "Slurm" in texts(list(doctor(plan)), expected)
