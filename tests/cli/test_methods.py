"""`kd methods`: what each method is and needs; without torch, and by either name of the program."""

from __future__ import annotations

import subprocess
import sys

import pytest

from kd.__main__ import parser
from kd.cli.methods import describe_method, list_methods
from kd.common.errors import UserError
from kd.distillers.registry import METHODS


def test_list__has_a_line_for_each_with_tasks_and_what_it_compares() -> None:
    header, *lines = list_methods()
    assert header.split()[0] == "method"
    cells = {line.split()[0]: line for line in lines}
    assert list(cells) == METHODS.names()
    for name, said in (
        ("vanilla", "  single_label, multi_label  nothing "),
        ("dkd", "  single_label               logits "),
        ("mlfd", " logits, L2 by level, L3 by level, L4 by level  MLFD: multi-level"),
        ("l2d", "  multi_label                logits, label embeddings "),
    ):
        assert said in cells[name]


@pytest.mark.parametrize("name", METHODS.names())
def test_page__has_docstring_and_every_option_with_its_default(name: str) -> None:
    page = "\n".join(describe_method(name))
    assert (METHODS.load(name).__doc__ or "").strip() in page
    for option, field in METHODS.load(name).Method.model_fields.items():
        if option != "name":
            assert f"\n  {option}: " in page
            assert isinstance(field.default, bool | float | int | str | tuple)
    assert f"Module: kd.distillers.{name}" in page


def test_page__of_no_method_says_which_there_are() -> None:
    with pytest.raises(UserError, match=r"dkt: no method of this name; did you mean (dkd|pkt)\? known: at, "):
        list(describe_method("dkt"))


def test_methods__imports_no_torch() -> None:
    code = (
        "import sys; sys.argv = ['kd', 'methods']\n"
        "from kd.__main__ import main; main()\n"
        "print([name for name in ('torch', 'timm', 'pandas', 'zarr') if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize(("started", "prog"), [("/usr/bin/kd", "kd"), ("/x/kd/__main__.py", "python -m kd")])
def test_usage__is_as_the_program_was_started(monkeypatch: pytest.MonkeyPatch, started: str, prog: str) -> None:
    monkeypatch.setattr(sys, "argv", [started])
    assert parser().format_usage().startswith(f"usage: {prog} [-h]")
