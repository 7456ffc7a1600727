"""Methods, sources, modalities and backbones of an installed package, and what is said of one that is broken."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import ROOT
from tests.workflow.contributing import config, package
from tests.workflow.running import snakemake

BROKEN = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "kd-broken"
version = "2.1"

[tool.hatch.build.targets.wheel]
packages = ["kd_broken"]

[project.entry-points."kd.methods"]
fails = "kd_broken.fails"
bare = "kd_broken"
"""
FAILS = "kd-broken 2.1 (entry point fails = kd_broken.fails in kd.methods): cannot be imported: ZeroDivisionError:"
BARE = "kd-broken 2.1 (entry point bare = kd_broken in kd.methods): has no Method, expected a Distiller"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder where pip has installed the package of CONTRIBUTING.md, and one that is broken."""
    folder = tmp_path_factory.mktemp("packages")
    broken = folder / "kd-broken"
    (broken / "kd_broken").mkdir(parents=True)
    (broken / "pyproject.toml").write_text(BROKEN)
    (broken / "kd_broken/__init__.py").touch()
    (broken / "kd_broken/fails.py").write_text("1 / 0\n")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--target"]
    target = folder / "installed"
    command = [sys.executable, "-m", "pip", "install", *options, str(target), str(package(folder)), str(broken)]
    subprocess.run(command, check=True)
    return target


@pytest.fixture(autouse=True)
def _with_packages(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For processes that a test starts."""
    monkeypatch.setenv("PYTHONPATH", str(installed))


def kd(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from kd.__main__ import main; main()"
    command = [sys.executable, "-c", code, str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)


def test_package__is_used_in_a_config_and_its_students_carry_its_name(tmp_path: Path) -> None:
    done = snakemake(tmp_path, "tables", config=config(), share=False)
    assert done.returncode == 0, done.stdout
    rows = pd.read_csv(tmp_path / "results/experiments/waves/tables/summary.csv")
    assert set(rows["method"]) == {"individual", "smooth_l1"}
    (student,) = tmp_path.glob("results/distill_student/*/*/manifest.json")
    made = json.loads(student.read_text())
    assert {"kd_waves.smooth_l1", "kd_waves.conv1d", "kd_waves.series"} <= set(made["code"])
    assert made["versions"]["kd-waves"] == "1.0"
    verified = kd("verify", "--configfile", str(tmp_path / "config.yaml"), folder=tmp_path)
    assert verified.returncode == 0, verified.stdout + verified.stderr


@pytest.mark.parametrize(("method", "said"), [("fails", FAILS), ("bare", BARE)])
def test_broken_package__is_one_error_that_names_it(tmp_path: Path, method: str, said: str) -> None:
    raw = config()
    raw["students"]["matched"]["distiller"] = {"name": method}
    done = snakemake(tmp_path, "-n", config=raw, share=False)
    assert done.returncode == 1
    assert said in done.stdout
    assert "Traceback" not in done.stdout


def test_methods__lists_those_of_packages_and_says_what_is_broken() -> None:
    done = kd("methods")
    assert done.returncode == 0, done.stderr
    lines = {line.split()[0]: line for line in done.stdout.splitlines() if not line.startswith("broken")}
    assert lines["smooth_l1"].endswith("[kd-waves 1.0]")
    assert "mlfd" in lines
    broken = [line for line in done.stdout.splitlines() if line.startswith("broken")]
    assert [line.split(":")[1].strip() for line in broken] == ["bare", "fails"]
    assert FAILS in broken[1]
    page = kd("methods", "smooth_l1")
    assert "Package: kd-waves 1.0" in page.stdout
    assert "weight: 1\n      a: of the distance between logits." in page.stdout
    failed = kd("methods", "fails")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert FAILS in failed.stderr


def test_schema__accepts_what_packages_add_to_ours() -> None:
    ours = json.loads((ROOT / "workflow/schemas/config.schema.json").read_text())
    done = kd("schema")
    assert done.returncode == 0, done.stderr
    schema = json.loads(done.stdout)
    assert set(ours["$defs"]) < set(schema["$defs"])
    assert "source_waves" in schema["$defs"]
    names = {each["properties"]["name"]["const"] for each in schema["$defs"].values() if each.get("title") == "Method"}
    assert {"mlfd", "smooth_l1"} < names
    assert not names & {"fails", "bare"}


def test_names__in_an_error_are_those_of_packages_too(tmp_path: Path) -> None:
    raw = config()
    raw["students"]["matched"]["distiller"] = {"name": "smooth"}
    done = snakemake(tmp_path, "-n", config=raw, share=False)
    assert done.returncode == 1
    assert "'smooth_l1', 'sp', 'vanilla']" in done.stdout
