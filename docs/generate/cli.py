"""A page with all commands, from the parsers of `python -m kd` and the rules of the workflow."""

from __future__ import annotations

import argparse
import re
from functools import partial

from docs.generate import ROOT
from docs.generate.options import table
from kd.__main__ import parser

WIDTH = 100  # characters of a line of help
RULE = re.compile(r'^rule (\w+):\n    """(.*?)"""$', re.MULTILINE | re.DOTALL)


def commands() -> dict[str, argparse.ArgumentParser]:
    """The parser of each command, by its name."""
    (found,) = (each.choices for each in parser()._actions if each.metavar == "command")  # noqa: SLF001 # no public way
    assert isinstance(found, dict)
    return found


def targets() -> dict[str, str]:
    """What can be asked of the workflow, and what is made then: rules that have a docstring."""
    own = (ROOT / "Snakefile").read_text()
    texts = [*((ROOT / path).read_text() for path in re.findall(r'^include: "(.+)"$', own, re.MULTILINE)), own]
    return {name: " ".join(text.split()) for each in texts for name, text in RULE.findall(each)}


def help_of(command: argparse.ArgumentParser) -> str:
    """What `--help` prints, whatever the width of the terminal is."""
    command.formatter_class = partial(argparse.HelpFormatter, width=WIDTH)
    return command.format_help()


def page() -> str:
    """The page."""
    example = "snakemake --workflow-profile workflow/profiles/workstation --configfile my.yaml -- TARGET"
    sections = [f"### {name}\n\n```text\n{help_of(command)}```\n" for name, command in commands().items()]
    rows = [(f"`{name}`", text) for name, text in targets().items()]
    return "\n".join(
        [
            "# Commands\n",
            "## python -m kd\n",
            f"```text\n{help_of(parser())}```\n",
            *sections,
            "## Targets of the workflow\n",
            f"`{example}` makes one of these, and all that it is made from. `snakemake --list` shows them, too.\n",
            table(("target", "what it makes"), rows),
        ]
    )
