"""The worked examples of CONTRIBUTING.md, as files and edits."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tests.conftest import ROOT

CONFIG, PACKAGE = "my.yaml", "kd-waves"
MODULES = ("distillers/smooth_l1", "data/sources/waves", "data/modalities/series", "models/backbones/conv1d")


class Block(NamedTuple):
    """A fenced block: of which file it is, and whether as a whole or as an edit (`diff`)."""

    path: str
    language: str
    text: str


def blocks() -> list[Block]:
    """All blocks, in order; each is of the file that was last named on a line of its own."""
    found, path = [], ""
    pattern = re.compile(r"^`([\w./-]+)`$|^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    for named, language, text in pattern.findall((ROOT / "CONTRIBUTING.md").read_text()):
        if named:
            path = named
        else:
            found.append(Block(path, language, text))
    return found


def text_of(path: str) -> str:
    """The block that is a whole file."""
    (text,) = [block.text for block in blocks() if block.path == path and block.language != "diff"]
    return text


def config() -> dict[str, Any]:
    """The config that uses the examples."""
    read: dict[str, Any] = yaml.safe_load(text_of(CONFIG))
    return read


def extend(checkout: Path) -> None:
    """Write a copy of the code, with all examples that are in the repository."""
    shutil.copy(ROOT / "Snakefile", checkout)
    for folder in ("workflow", "kd", "envs"):
        shutil.copytree(ROOT / folder, checkout / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for block in blocks():
        path = checkout / block.path
        if block.language == "diff":
            path.write_text(edited(path.read_text(), block))
        elif block.path.startswith(("kd/", "workflow/")):
            assert not path.exists(), f"{path} is there already"
            path.write_text(block.text)


def edited(text: str, edit: Block) -> str:
    """A text after an edit; the lines that the edit shows must be in it, once."""
    lines = edit.text.splitlines(keepends=True)
    old, new = ("".join(line[1:] for line in lines if line[0] in kinds) for kinds in (" -", " +"))
    assert text.count(old) == 1, f"CONTRIBUTING.md, {edit.path}: found {text.count(old)} times:\n{old}"
    return text.replace(old, new)


def package(folder: Path) -> Path:
    """The package with entry points: the same modules, outside of kd."""
    project = folder / PACKAGE
    (project / "kd_waves").mkdir(parents=True)
    (project / "pyproject.toml").write_text(text_of(f"{PACKAGE}/pyproject.toml"))
    (project / "kd_waves/__init__.py").touch()
    for module in MODULES:
        (project / f"kd_waves/{Path(module).name}.py").write_text(text_of(f"kd/{module}.py"))
    return project
