"""Every number of the pages has a command that measures it: all run here at a small size. None is compared."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest

from benchmarks import __main__ as everything
from benchmarks import experiments, mlfd, papers
from benchmarks.experiments import EXPERIMENTS
from benchmarks.pages import BLOCK, PAGES, Block, make_parser, pages_of, write_block
from benchmarks.rows import HEADER, ROOT, Row, UnavailableError, lines_of, parser, table
from kd.config.load import load_config
from kd.planning.plan import Plan

NUMBER = re.compile(r"[\d.e-]+( MiB| s)?( \([\d.e-]+ to [\d.e-]+\))?")
CONTENT = re.compile(
    r"\n(?P<shown>(?P<table>(\| .* \|\n){3,})(\n(- .*\n)+)?)"
    r"\nWritten by `(?P<command>[^`]+)` (?P<note>on \d{4}-\d\d-\d\d: .*)\n\n"
)
NAMES = [pytest.param(name, marks=[pytest.mark.slurm] * (name == "slurm")) for name in everything.NAMES]
FOUND = [(path, match) for path in PAGES for match in BLOCK.finditer(path.read_text())]
BLOCKS = {match["name"]: match["content"] for _, match in FOUND if match["name"] not in papers.TABLES}


@pytest.fixture(autouse=True)
def _shared_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU, processes of a benchmark find a slot beside the one that earlier tests of this process hold."""
    monkeypatch.setenv("KD_JOBS_PER_GPU", "2")


def cells(line: str) -> list[str]:
    return line.removeprefix("| ").removesuffix(" |").split(" | ")


def check_command(command: str) -> None:
    """It names a module of benchmarks, and options that this takes."""
    python, option, name, *arguments = shlex.split(command)
    assert [python, option, name.split(".")[0]] == ["python", "-m", "benchmarks"]
    module = importlib.import_module(name if "." in name else f"{name}.__main__")
    assert callable(module.main)
    names = getattr(module, "NAMES", ())
    (make_parser(module.__doc__, names) if names else parser(module.__doc__)).parse_args(arguments)


@pytest.mark.parametrize("name", NAMES)
def test_measure__small(name: str) -> None:
    try:
        header, *lines = lines_of(importlib.import_module(f"benchmarks.{name}").measure, small=True)
    except UnavailableError as reason:
        pytest.skip(str(reason))
    assert header == HEADER
    assert lines
    for what, _, number, command in lines:
        assert what
        assert NUMBER.fullmatch(number)
        check_command(command.strip("`"))


@pytest.mark.parametrize("values", [[], [0.0], [1.0, -1.0], [float("nan")], [float("inf"), 1.0]])
def test_row__refuses_what_is_no_measurement(values: list[float]) -> None:
    with pytest.raises(ValueError, match="reading: measured"):
        Row("reading", "", values)


@pytest.mark.parametrize(
    ("values", "unit", "shown"),
    [([0.001234], "", "0.00123"), ([300.4], "s", "300 s"), ([3.0, 1.0, 2.0], "", "2.00 (1.00 to 3.00)")],
)
def test_row__shows_the_median_and_the_range(values: list[float], unit: str, shown: str) -> None:
    assert Row("reading", "", values, unit).number == shown


@pytest.mark.parametrize("name", ["cache_precision", "training_precision"])
def test_experiment__small(name: str) -> None:
    block = experiments.make_block(name, small=True)
    header, _, *lines = (cells(line) for line in block.table.splitlines())
    assert [label for label, *_ in lines] == list(EXPERIMENTS[name].lines.values())
    assert all(0 <= float(accuracy) <= 100 for _, accuracy, *_ in lines)
    assert not lines[0][2]
    assert all(re.fullmatch(r"[+-]\d+\.\d\d ± \d+\.\d\d", difference) for _, _, difference, *_ in lines[1:])
    assert ("KiB per training image" in header) == (name != "training_precision")
    assert CONTENT.fullmatch(str(block))


def test_search__small() -> None:
    (name,) = experiments.SEARCHES
    block = experiments.make_block(name, small=True)
    header, _, *lines = (cells(line) for line in block.table.splitlines())
    students = ["`student` L1", "`student` L2", "mean"]
    assert header == ["setting", *students, "`single_dataset_kd` L1", "`single_dataset_kd_features` L2", "mean"]
    assert [setting for setting, *_ in lines] == ["paper", "soft", "t1", "t4"]
    for _, *scores in lines:
        first, second, mean = (float(each) for each in scores[:3])
        assert mean == pytest.approx((first + second) / 2, abs=0.01)
    assert CONTENT.fullmatch(str(block))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment__compares_rows_of_its_config(name: str) -> None:
    plan = Plan(load_config(experiments.load(name)))
    assert EXPERIMENTS[name].lines.keys() <= {(row.experiment, row.method) for row in plan.rows}


def test_pages__have_the_blocks_that_are_written_once() -> None:
    written = [everything.BLOCK, *experiments.NAMES, *mlfd.NAMES, *papers.TABLES]
    assert sorted(match["name"] for _, match in FOUND) == sorted(written)
    assert pages_of(written) == {match["name"]: path for path, match in FOUND}


@pytest.mark.parametrize("name", BLOCKS)
def test_pages__have_blocks_as_they_are_written(name: str) -> None:
    found = CONTENT.fullmatch(BLOCKS[name])
    assert found
    check_command(found["command"])
    assert str(Block(name, found["command"], found["shown"], found["note"])) == BLOCKS[name]
    header, _, *lines = (cells(line) for line in found["table"].splitlines())
    assert table([header, *lines]) == found["table"]


@pytest.mark.parametrize("name", papers.TABLES)
def test_papers__are_on_the_pages_as_their_files_have_them(name: str) -> None:
    block = papers.make_block(name)
    check_command(block.command)
    assert [match["content"] for _, match in FOUND if match["name"] == name] == [str(block)]
    printed = (ROOT / papers.FOLDER / f"{papers.TABLES[name].paper}.csv").read_text()
    numbers = re.findall(r"\d+\.\d\d", block.table)
    assert numbers
    assert set(numbers) <= set(re.findall(r"\d+\.\d\d", printed))


def test_costs__have_a_command_each() -> None:
    header, _, *lines = (cells(line) for line in BLOCKS[everything.BLOCK].splitlines() if line.startswith("|"))
    assert tuple(header) == HEADER
    for *_, number, command in lines:
        assert NUMBER.fullmatch(number)
        check_command(command.strip("`"))
    for name in everything.NAMES:
        assert f"benchmarks.{name}" in BLOCKS[everything.BLOCK]  # as a command, or as left out


def test_pages__name_commands_that_there_are() -> None:
    commands = [each for path in PAGES for each in re.findall(r"`(python -m benchmarks[^`]*)`", path.read_text())]
    assert commands
    for command in commands:
        check_command(command)


def test_write_block__changes_what_is_between_its_markers(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("a\n<!-- begin x -->\nold\n<!-- end x -->\nb\n<!-- begin y -->\nkept\n<!-- end y -->\n")
    block = Block("x", "python -m benchmarks", table([["c"], ["1"]]), "on 2026-01-31: nothing.")
    for _ in range(2):
        write_block(path, block)
    assert (
        path.read_text() == f"a\n<!-- begin x -->\n{block}<!-- end x -->\nb\n<!-- begin y -->\nkept\n<!-- end y -->\n"
    )


@pytest.mark.parametrize("text", ["", "<!-- begin x -->\n", "<!-- begin x -->\n<!-- end x -->\n" * 2])
def test_write_block__wants_its_markers_once(tmp_path: Path, text: str) -> None:
    path = tmp_path / "page.md"
    path.write_text(text)
    with pytest.raises(ValueError, match="expected 1"):
        write_block(path, Block("x", "", "", ""))
    assert path.read_text() == text


def test_all__says_what_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")  # so that there is no Slurm
    monkeypatch.setattr(everything, "NAMES", ("slurm",))
    block = everything.make_block(small=True)
    assert block.table == ""
    assert "Left out: `benchmarks.slurm`, which needs" in block.note


def test_some__keep_the_rows_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(everything, "NAMES", ("one", "two"))
    rows = {name: [f"| {name} | `python -m benchmarks.{name}` |\n"] for name in ("one", "two")}
    header = ["| what | command |\n", "| --- | --- |\n"]
    monkeypatch.setattr(everything, "rows_of", lambda name, **_: ([*header, *rows[name]], ""))
    first = everything.make_block(small=True)
    monkeypatch.setitem(rows, "two", ["| another | `python -m benchmarks.two` |\n"])
    second = everything.make_block(["two"], str(first), small=True)
    assert second.table == "".join([*header, *rows["one"], *rows["two"]])
    assert second.command == "python -m benchmarks two --small"
    assert "The rows of `benchmarks.one` are older: written by `python -m benchmarks --small` on" in second.note
    third = everything.make_block(["two"], str(second), small=True)
    assert third.note.count("The rows of") == 1  # what is said of a run goes with its last row


def test_all__writes_nothing_if_one_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    text = "<!-- begin costs -->\n<!-- end costs -->\n"
    page.write_text(text)
    monkeypatch.setattr(everything, "NAMES", ("no_such",))
    monkeypatch.setattr("sys.argv", ["benchmarks", "--page", str(page)])
    with pytest.raises(SystemExit, match="no_such failed"):
        everything.main()
    assert page.read_text() == text


@pytest.mark.parametrize("text", [None, "no markers\n", "<!-- begin costs -->\n"])
def test_all__wants_a_page_with_markers_before_it_measures(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str | None
) -> None:
    page = tmp_path / "page.md"
    if text is not None:
        page.write_text(text)
    monkeypatch.setattr(everything, "NAMES", ("no_such",))
    monkeypatch.setattr("sys.argv", ["benchmarks", "--small", "--page", str(page)])
    with pytest.raises(SystemExit, match="--page"):
        everything.main()


def test_pages_of_mlfd__have_all_claims_and_figures() -> None:
    claims = experiments.load(mlfd.CONFIG)["reports"]["findings"]["claims"]
    assert all(f"| {each['claim']} |" in BLOCKS["findings"] for each in claims)
    for name in mlfd.FIGURES:
        assert "<svg" in (mlfd.PAGE.parent / f"{name}.svg").read_text()
        assert f"({name}.svg)" in mlfd.PAGE.read_text()
