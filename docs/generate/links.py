"""Links and blocks of results, between the pages of the repository and those of the site.

Pages are written so that their links work where they lie in the repository. The site has some of these files in other
places, and does not have others; see `docs.generate.pages`.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping

from benchmarks.pages import find_block
from docs.generate import ROOT

CODE = r"^(?P<fence> *```+)[^\n]*\n.*?^(?P=fence)\s*?$|(?P<ticks>`+)(?!`).*?(?<!`)(?P=ticks)(?!`)"
LINK = re.compile(rf"{CODE}|\[(?P<text>[^\]\n]*)\]\((?P<target>[^()\s]+)\)", re.MULTILINE | re.DOTALL)
DOCS = "docs/"
ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
INCLUDE = re.compile(r"^<!-- include (?P<file>\S+) (?P<block>\w+)(?:: (?P<rows>.+?))? -->$", re.MULTILINE)


def links(text: str) -> Iterator[str]:
    """Targets of the links of a page, but for those in code."""
    for match in LINK.finditer(text):
        if match["target"]:
            yield match["target"]


def resolved(target: str, origin: str) -> tuple[str, str]:
    """The file that a link leads to, by its path from the root of the repository, and the anchor in it.

    Args:
        target: of the link, not one to another host.
        origin: path of the file that has the link.
    """
    path, _, anchor = target.partition("#")
    folder = posixpath.dirname(origin)
    return (posixpath.normpath(posixpath.join(folder, path)) if path else origin), anchor


def rewritten(text: str, origin: str, page: str, pages: Mapping[str, str]) -> str:
    """A page with links as the site needs them; one to a file that the site does not have becomes its text.

    Args:
        text: in Markdown.
        origin: path of its file from the root of the repository.
        page: path of the page from the root of the site.
        pages: paths of the site by those of the repository.
    """

    def replace(match: re.Match[str]) -> str:
        target = match["target"]
        if not target or ELSEWHERE.match(target) or target.startswith("#"):
            return match[0]
        path, anchor = resolved(target, origin)
        exists, image = (ROOT / path).exists(), text[match.start() - 1 : match.start()] == "!"
        place = pages.get(path) or (path.removeprefix(DOCS) if exists and path.startswith(DOCS) else None)
        if place is not None:
            there = posixpath.relpath(place, posixpath.dirname(page) or ".")
            return f"[{match['text']}]({there}{'#' if anchor else ''}{anchor})"
        return match["text"] if exists and not image else match[0]

    return LINK.sub(replace, text)


def with_blocks(text: str, finish: Callable[[str, str], str] = lambda block, _: block) -> str:
    """A page with what its lines `<!-- include FILE BLOCK -->` name.

    Args:
        text: in Markdown.
        finish: makes of a block, and of the path of the file that it is from, what is put in.

    Raises:
        ValueError: a file has no such block, or its table no such row.
        OSError: there is no such file.
    """

    def replace(match: re.Match[str]) -> str:
        block = find_block((ROOT / match["file"]).read_text(), match["block"])["content"].strip()
        return finish(_rows(block, match["rows"]) if match["rows"] else block, match["file"])

    return INCLUDE.sub(replace, text)


def _rows(block: str, wanted: str) -> str:
    """A block of which the table has the rows with some text only."""
    lines = block.splitlines()
    rows = [number for number, line in enumerate(lines) if line.startswith("|")]
    kept = {number for number in rows[2:] if wanted in lines[number]}
    if not kept:
        raise ValueError(f"no row of the table has {wanted!r}")
    return "\n".join(line for number, line in enumerate(lines) if number not in rows[2:] or number in kept)
