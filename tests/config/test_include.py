"""Configs that include others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from kd.__main__ import parser
from kd.common.errors import UserError
from kd.config.load import read_config, read_settings
from kd.planning.plan import plan_of
from tests.workflow.running import snakemake


@pytest.fixture
def reading(tmp_path: Path) -> Any:
    """Write files of these contents, and read the first one."""

    def read(**contents: Any) -> dict[str, Any]:
        for name, content in contents.items():
            (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        return read_config(tmp_path / f"{next(iter(contents))}.yaml")

    return read


def test_include__own_keys_win_at_every_depth(reading: Any) -> None:
    found = reading(
        main={"include": ["base.yaml"], "seeds": [1, 2], "recipes": {"r": {"epochs": 5}, "s": {"lr": 1}}},
        base={"seeds": [0], "recipes": {"q": {"lr": 3}, "r": {"epochs": 2, "lr": 0.1}}, "experiment": "x"},
    )
    assert found == {
        "seeds": [1, 2],
        "recipes": {"q": {"lr": 3}, "r": {"epochs": 5, "lr": 0.1}, "s": {"lr": 1}},
        "experiment": "x",
    }
    assert list(found["recipes"]) == ["q", "r", "s"]  # the first teacher of a dataset counts where none is named


def test_include__a_value_replaces_keys_and_keys_a_value(reading: Any) -> None:
    found = reading(main={"include": ["base.yaml"], "a": None, "b": {"c": 1}}, base={"a": {"x": 1}, "b": "individual"})
    assert found == {"a": None, "b": {"c": 1}}


def test_include__files_include_others_by_paths_of_their_own_folders(tmp_path: Path) -> None:
    (tmp_path / "sets").mkdir()
    (tmp_path / "main.yaml").write_text("include: [sets/a.yaml, sets/b.yaml]\n")
    (tmp_path / "sets/a.yaml").write_text("include: [common.json]\na: 1\n")
    (tmp_path / "sets/b.yaml").write_text("include: [common.json]\nb: 2\n")
    (tmp_path / "sets/common.json").write_text('{"c": [3]}')
    assert read_config(tmp_path / "main.yaml") == {"a": 1, "b": 2, "c": [3]}


def test_include__two_that_differ_are_settled_here_or_an_error(reading: Any, tmp_path: Path) -> None:
    files = {"a": {"m": {"x": 1, "y": 2}}, "b": {"m": {"x": 1, "y": 3}}}
    with pytest.raises(UserError, match=rf"^{tmp_path}/main.yaml: include: a.yaml and b.yaml differ in m.y; say here"):
        reading(main={"include": ["a.yaml", "b.yaml"], "m": {"z": 0}}, **files)
    assert reading(main={"include": ["a.yaml", "b.yaml"], "m": {"y": 9}}, **files)["m"] == {"x": 1, "y": 9}
    with pytest.raises(UserError, match="differ in m; say here"):
        reading(main={"include": ["a.yaml", "b.yaml"]}, a={"m": 1}, b={"m": {"x": 1}})


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"main": {"include": ["main.yaml"]}}, "main.yaml includes main.yaml; a file cannot include itself"),
        (
            {"main": {"include": ["a.yaml"]}, "a": {"include": ["b.yaml"]}, "b": {"include": ["a.yaml"]}},
            "a.yaml includes b.yaml includes a.yaml; a file",
        ),
        ({"main": {"include": ["none.yaml"]}}, "include: none.yaml: .*none.yaml is not a file"),
        ({"main": {"include": "a.yaml"}, "a": {}}, "include: given a.yaml, expected a list of paths"),
        ({"main": {"include": [1]}}, r"include: given \[1\], expected a list"),
        ({"main": {"include": None}}, "include: given None, expected a list"),
        ({"main": {"include": ["a.yaml"]}, "a": [1]}, "a.yaml: holds list, expected the keys of a config"),
    ],
)
def test_include__mistakes(reading: Any, files: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        reading(**files)
    assert len(str(raised.value).splitlines()) == 1


def test_include__by_the_workflow_and_the_commands_and_below_what_the_command_line_says(
    tmp_path: Path, tiny: dict[str, Any]
) -> None:
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(tiny, sort_keys=False))
    mine = {"include": ["base.yaml"], "seeds": [0, 1]}
    told = ["experiment=other", "seeds=[0, 2]", 'reports={title: "1: 2"}']
    done = snakemake(tmp_path, "-n", "--config", *told, config=mine)
    assert done.returncode == 0, done.stdout
    assert "digits_resnet-seed2" in done.stdout
    assert "digits_resnet-seed1" not in done.stdout
    assert "experiments/other" in done.stdout
    planned = plan_of(tmp_path / "config.yaml")
    assert planned.config.seeds == [0, 1]
    assert planned.config.experiment == "tiny"
    planned = plan_of(tmp_path / "config.yaml", told)
    assert planned.config.seeds == [0, 2]
    assert (planned.config.experiment, planned.config.reports.title) == ("other", "1: 2")


def test_settings__are_several_behind_one_option() -> None:
    told = parser().parse_args(["why", "name", "--config", "a=1", "b=[2, 3]", "--config", "c=x"]).config
    assert read_settings(told) == {"a": 1, "b": [2, 3], "c": "x"}
    with pytest.raises(SystemExit):
        parser().parse_args(["why", "name", "--conf", "a=1"])


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ("results", "--config results: expected KEY=VALUE"),
        ("a.b=1", "--config a.b=1: expected KEY=VALUE, with a key of the config's top level"),
        ("seeds=[0", r"--config seeds, line 1: is not valid YAML"),
        ("seeds={a: 1, a: 2}", r"--config seeds: a: this key stands twice"),
        ("seed=1", "config: seed: unknown key; did you mean seeds"),
    ],
)
def test_settings__mistakes(tmp_path: Path, tiny: dict[str, Any], told: str, message: str) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tiny))
    with pytest.raises(UserError, match=message):
        plan_of(tmp_path / "config.yaml", [told])
