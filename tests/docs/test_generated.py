"""The reference: it is what the code says, and all of it."""

from __future__ import annotations

import inspect
import io
import re
import tokenize
from itertools import pairwise
from typing import Any

import pytest
import yaml

import kd.api
from docs.generate import cli, config, disk_format, messages, methods, pages
from docs.generate.messages import CLOSE, OPEN, Message
from kd.common.errors import UserError
from kd.config.load import load_config
from kd.distillers.registry import METHODS, load_distiller, parse_distiller
from tests.conftest import ROOT


def test_config__is_current() -> None:
    for path, blocks in config.FILES.items():
        text = path.read_text()
        assert text == config.current(text, blocks), "run: make reference"


def test_config__a_block_that_is_missing_or_unknown_is_an_error() -> None:
    text = config.README.read_text()
    with pytest.raises(ValueError, match="0 blocks between markers `begin recipes`"):
        config.current(text.replace("<!-- begin recipes -->", ""))
    with pytest.raises(ValueError, match=r"blocks \['others'\], expected some of"):
        config.current(text + "<!-- begin others -->\n<!-- end others -->\n")


# Methods


@pytest.mark.parametrize("name", METHODS.own())
def test_method__its_docstring_shows_it_as_a_config_has_it(name: str) -> None:
    shown = yaml.safe_load(methods.config_line(name))["distiller"]
    assert parse_distiller(shown) == load_distiller(name).model_validate({"name": name})  # the defaults


@pytest.mark.parametrize("name", METHODS.own())
def test_method__its_page_has_every_part(name: str) -> None:
    page = methods.page(name)
    for part in ("## Differences from the authors' code", "## What it needs", "## How to ask for it", "## Options"):
        assert part in page
    assert "    L = " in page
    assert methods.DIFFERENCES not in page
    assert all(f"| `{option}` |" in page for option in load_distiller(name).model_fields if option != "name")
    assert f'kd.create_method("{name}"' in page


def test_methods__a_python_line_is_python_with_the_same_options() -> None:
    for name in METHODS.own():
        made: dict[str, Any] = {"kd": kd}
        exec(methods.python_line(name), made)
        assert made["method"] == parse_distiller({"name": name})


def test_methods__the_index_names_all() -> None:
    index = methods.index()
    assert re.findall(r"\]\((\w+)\.md\)", index) == METHODS.own()
    assert "with level L3: `logits`, `L3`, `L2`" in index  # of mlfd


# Commands


def test_cli__has_every_command_and_target() -> None:
    page = cli.page()
    assert all(f"### {name}\n" in page for name in ("predict", "schema", "why", "gc", "verify"))
    assert "--forget EXPERIMENT" in page
    paths = [ROOT / "Snakefile", *(ROOT / "workflow/rules").glob("*.smk")]
    rules = [rule for path in paths for rule in re.split(r"^(?=\S)", path.read_text(), flags=re.MULTILINE)]
    without_output = {rule.split(":")[0][5:] for rule in rules if rule.startswith("rule ") and "output:" not in rule}
    assert cli.targets().keys() == without_output | {"report"}


# On disk


def test_disk_format__says_every_field_of_a_manifest_and_every_array() -> None:
    from kd.artefacts.manifest import Manifest
    from kd.embeddings.options import POSITIVES
    from kd.models.spec import ARRAYS

    page = disk_format.page()
    names = (*inspect.get_annotations(Manifest), *ARRAYS, POSITIVES, "images", "ids", "labels")
    assert {name for name in names if f"`{name}`" not in page} == set()


# Python


def test_api__has_every_public_name() -> None:
    assert pages.public_names() == kd.api.__all__
    assert all(f"::: kd.{name}\n" in pages.api() for name in kd.api.__all__)


# Messages


def count_of_errors() -> int:
    """How often an error that is told in one line is made, by the tokens of every file."""
    texts = [path.read_text() for path in sorted((ROOT / "kd").rglob("*.py"))]
    derived = {name for text in texts for name in re.findall(r"^class (\w+)\(UserError\)", text, re.MULTILINE)}
    names, count = {"UserError", *derived}, 0
    for text in texts:
        tokens = [each for each in tokenize.generate_tokens(io.StringIO(text).readline) if each.type != tokenize.NL]
        for before, (name, bracket) in zip(["", *(each.string for each in tokens)], pairwise(tokens), strict=False):
            count += name.string in names and bracket.string == "(" and before != "class"
    return count


def test_messages__every_user_error_is_found() -> None:
    found = messages.messages()
    assert sum(message.raised and message.file.startswith("kd/") for message in found) == count_of_errors() > 300
    page = messages.page()
    assert all(" ".join(message.text.split()) in page for message in found)


def test_messages__of_rules_are_found() -> None:
    texts = [message.text for message in messages.messages_of_rules()]
    assert any("expected 1 on a workstation; several take workflow/profiles/slurm" in text for text in texts)


def matches(message: Message, text: str) -> bool:
    """Whether an error that was met is one of a kind."""
    holes = re.split(f"{OPEN}.*?{CLOSE}", message.text)
    return re.fullmatch(".*".join(map(re.escape, holes)), text, re.DOTALL) is not None


@pytest.mark.parametrize(
    ("key", "value", "file"),
    [
        ("students", {"s": {"teacher": "nobody", "recipe": "network"}}, "kd/config/checks.py"),
        ("seeds", [1, 1], "kd/config/checks.py"),
    ],
)
def test_messages__an_error_that_is_met_is_among_them(tiny: dict[str, Any], key: str, value: Any, file: str) -> None:
    with pytest.raises(UserError) as met:
        load_config(tiny | {key: value})
    text = str(met.value).removeprefix("config: ").split("\n")[0]
    found = [each for each in messages.messages_of(file) if not each.raised and matches(each, text)]
    assert found != []


def test_messages__a_part_that_a_caller_hands_over_is_listed() -> None:
    (message,) = (
        each
        for each in messages.messages_of("kd/data/sources/members.py")
        if each.text.endswith(f"{OPEN}name{CLOSE}: {OPEN}said{CLOSE}")
    )
    assert f"ends after {OPEN}len{CLOSE} of {OPEN}size{CLOSE} bytes; get the archive again" in message.parts
