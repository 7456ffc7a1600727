"""The code digest follows what code does, not how it is written down."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from kd import digest
from kd.plan import STAGES
from tests.conftest import ROOT

STUDENT = ("kd.stages.distill_student", "kd.distillers.mlfd")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package, free to be edited."""
    shutil.copytree(ROOT / "kd", tmp_path / "kd", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(digest, "PACKAGE", tmp_path / "kd")
    return tmp_path / "kd"


def fresh(*modules: str) -> dict[str, str]:
    for cached in (digest._closure, digest._tree, digest._module_digest, digest._imports):
        cached.cache_clear()
    return digest.code_digests(*modules)


@pytest.fixture(autouse=True)
def _forget() -> object:
    yield
    fresh("kd.digest")


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_digest__comments_docstrings_and_layout_do_not_count(package: Path) -> None:
    before = fresh(*STUDENT)
    module = package / "distillers" / "mlfd.py"
    edit(module, '"""MLFD: multi-level', '"""Another docstring: multi-level')
    edit(module, "        hard = ", "        # a comment\n\n        hard = ")
    edit(
        module,
        '(at(teacher, "logits") / self.temperature)',
        '(\n            at(teacher, "logits") / self.temperature\n        )',
    )
    assert fresh(*STUDENT) == before


def test_digest__code_counts_where_it_is_imported(package: Path) -> None:
    teacher = fresh("kd.stages.train_teacher")
    before = fresh(*STUDENT)
    edit(package / "distillers" / "mlfd.py", "* self.temperature**2", "* self.temperature**3")
    after = fresh(*STUDENT)
    assert {name for name in after if after[name] != before[name]} == {"kd.distillers.mlfd"}
    assert fresh("kd.stages.train_teacher") == teacher
    edit(package / "training" / "loop.py", "AGREE_EVERY_STEPS = 8", "AGREE_EVERY_STEPS = 9")
    assert fresh("kd.stages.train_teacher") != teacher


def test_digest__data_of_a_module_count(package: Path) -> None:
    before = fresh("kd.stages.tabulate")
    edit(package / "evaluation" / "papers" / "l2d.csv", "resnet101", "resnet102")
    after = fresh("kd.stages.tabulate")
    assert {name for name in after if after[name] != before[name]} == {"kd.evaluation.papers"}


def test_digest__the_frame_around_stages_does_not_count(package: Path) -> None:
    before = fresh(*STUDENT)
    edit(package / "jobs" / "progress.py", "LINE_EVERY_SECONDS = 5.0", "LINE_EVERY_SECONDS = 9.0")
    assert fresh(*STUDENT) == before


def test_digest__a_stage_does_not_depend_on_config_plan_or_tables() -> None:
    for stage in STAGES:
        closure = digest._closure((f"kd.stages.{stage}",))
        assert not closure & {"kd.config", "kd.plan", "kd.references", "kd.evaluation.tables", "kd.distillers.mlfd"}


def test_packages__import_only_from_their_left() -> None:
    order = ["jobs", "data", "models", "embeddings", "distillers", "training", "evaluation"]
    for position, package in enumerate(order):
        right = order[position + 1 :]
        for path in (ROOT / "kd" / package).rglob("*.py"):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            used = {each.split(".")[1] for each in digest._imports(name) if "." in each}
            assert not used & set(right), f"{name} imports from {used & set(right)}"
