"""The code digest follows what code does, not how it is written down."""

from __future__ import annotations

import shutil
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from kd.artefacts import code as digest
from kd.stages.registry import STAGES
from tests.conftest import ROOT

STUDENT = ("kd.stages.distill_student", "kd.distillers.mlfd")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package, free to be edited."""
    shutil.copytree(ROOT / "kd", tmp_path / "kd", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(digest, "PACKAGE", tmp_path / "kd")
    return tmp_path / "kd"


def forget() -> None:
    """What was read of the code."""
    for cached in (digest.reachable, digest._parse, digest._references, digest._path, digest._text, digest._digest):
        cached.cache_clear()


def fresh(*modules: str) -> dict[str, str]:
    forget()
    return digest.code_digests(*modules)


@pytest.fixture(autouse=True)
def _forget() -> object:
    yield
    fresh("kd.artefacts.code")


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
    before = fresh("kd.reporting.tables.papers")
    edit(package / "reporting" / "tables" / "papers" / "l2d.csv", "resnet101", "resnet102")
    after = fresh("kd.reporting.tables.papers")
    assert {name for name in after if after[name] != before[name]} == {"kd.reporting.tables.papers"}


def test_digest__the_frame_around_stages_does_not_count(package: Path) -> None:
    before = fresh(*STUDENT)
    edit(package / "jobs" / "progress.py", "LINE_EVERY_SECONDS = 5.0", "LINE_EVERY_SECONDS = 9.0")
    assert fresh(*STUDENT) == before


def test_digest__a_stage_does_not_depend_on_config_plan_or_tables() -> None:
    for stage in STAGES.values():
        reached = set(digest.reachable((stage.module.__name__,)))
        assert not reached & {
            "kd.config.schema",
            "kd.planning.plan",
            "kd.config.checks",
            "kd.reporting.tables.summary",
            "kd.distillers.mlfd",
        }


def test_digest__only_definitions_that_are_used_count(package: Path) -> None:
    """A helper beside a loss, a constant that nobody reads; but not one that a method is made to call."""
    teacher, before = fresh("kd.stages.train_teacher"), fresh(*STUDENT)
    losses = package / "distillers" / "losses.py"
    losses.write_text(losses.read_text() + "\n\nADDED = 1\n\n\ndef added(values):\n    return values * ADDED\n")
    assert fresh(*STUDENT) == before
    edit(package / "embeddings" / "encoding.py", "INT8_RANGE = 127", "INT8_RANGE = 126")
    assert fresh("kd.stages.train_teacher") == teacher
    assert fresh("kd.stages.cache_embeddings")["kd.embeddings.encoding"] != digest.code_digests(*STUDENT).get(
        "kd.embeddings.encoding"
    )
    method = package / "distillers" / "mlfd.py"
    edit(method, "from kd.distillers.losses import ", "from kd.distillers.losses import added, ")
    edit(method, "return self.soft_weight * soft", "return added(1) * soft")
    called = fresh(*STUDENT)
    assert {name for name in called if called[name] != before[name]} == {"kd.distillers.mlfd", "kd.distillers.losses"}
    edit(losses, "ADDED = 1", "ADDED = 2")
    assert fresh(*STUDENT)["kd.distillers.losses"] != called["kd.distillers.losses"]


def test_digest__of_somebody_elses_package_by_any_form_of_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "somebodys"
    folder.mkdir()
    helpers = ("near", "beside", "first", "second")
    texts = dict.fromkeys(helpers, "def helper():\n    return 1\n") | {
        "__init__": "",
        "method": (
            "import somebodys.first\nimport somebodys.second\n\nfrom . import beside\nfrom .near import helper\n\n\n"
            "def loss():\n"
            "    return helper() + beside.helper() + somebodys.first.helper() + somebodys.second.helper()\n"
        ),
    }
    for name, text in texts.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    before = fresh("somebodys.method")
    for name in helpers:
        edit(folder / f"{name}.py", "return 1", "return 2")
        after = fresh("somebodys.method")
        assert {each for each in after if after[each] != before[each]} == {f"somebodys.{name}"}
        before = after


def test_digest__of_a_compiled_module_is_that_of_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "somebodys_method.py").write_text("def read():\n    return 1\n")
    (tmp_path / "somebodys_package").mkdir()
    (tmp_path / "somebodys_package/method.py").write_text("from somebodys_package import fast\n\nloss = fast.loss\n")
    compiled = tmp_path / f"somebodys_package/fast{EXTENSION_SUFFIXES[0]}"
    compiled.write_bytes(b"1")
    monkeypatch.syspath_prepend(tmp_path)
    before = fresh("somebodys_package.method", "somebodys_method:read")
    assert {"somebodys_package.fast", "somebodys_method"} <= before.keys()
    compiled.write_bytes(b"2")
    after = fresh("somebodys_package.method", "somebodys_method:read")
    assert {each for each in after if after[each] != before[each]} == {"somebodys_package.fast"}
