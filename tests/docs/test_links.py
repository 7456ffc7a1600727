"""Links and blocks of results on the pages of the repository; those of the site are checked by its strict build."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.generate.links import CODE, ELSEWHERE, INCLUDE, links, resolved, rewritten, with_blocks
from docs.generate.pages import DOCUMENTS as PLACES
from docs.generate.pages import all_pages
from tests.conftest import ROOT

ON_THE_REPOSITORY = ("README.md", *PLACES)
DOCUMENTS = (*ON_THE_REPOSITORY, *(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")))


def anchors(text: str) -> set[str]:
    """Of the headings of a page, as the repository's own page has them."""
    prose = re.sub(CODE, lambda match: match[0] if match["ticks"] else "", text, flags=re.MULTILINE | re.DOTALL)
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", prose, re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
        number = next(each for each in range(100) if (f"{slug}-{each}" if each else slug) not in found)
        found.add(f"{slug}-{number}" if number else slug)
    return found


@pytest.mark.parametrize("file", DOCUMENTS)
def test_links__lead_somewhere(file: str) -> None:
    generated = {origin for origin in all_pages() if not (ROOT / origin).exists()}
    lost = []
    for target in links((ROOT / file).read_text()):
        if ELSEWHERE.match(target):
            continue
        path, anchor = resolved(target, file)
        if path in generated and file not in ON_THE_REPOSITORY:
            continue
        there = ROOT / path
        if not there.exists() or (anchor and anchor not in anchors(there.read_text())):
            lost.append(target)
    assert lost == []


@pytest.mark.parametrize("file", DOCUMENTS)
def test_includes__are_there(file: str) -> None:
    text = (ROOT / file).read_text()
    assert len(with_blocks(text)) >= len(text)
    assert len(re.findall(r"^<!-- include ", text, re.MULTILINE)) == len(INCLUDE.findall(text))


PAGES = {"config/README.md": "reference/config.md", "docs/a.md": "a.md", "kd/x.py": "reference/methods/x.md"}


@pytest.mark.parametrize(
    ("text", "origin", "page", "expected"),
    [
        ("[c](../config/README.md#x)", "docs/a.md", "a.md", "[c](reference/config.md#x)"),
        ("[a](../docs/a.md)", "config/README.md", "reference/config.md", "[a](../a.md)"),
        ("[x](../kd/x.py)", "config/README.md", "reference/config.md", "[x](methods/x.md)"),
        ("the [file](../Makefile)!", "docs/a.md", "a.md", "the file!"),
        ("[h](#here), [w](https://a.b/c)", "docs/a.md", "a.md", "[h](#here), [w](https://a.b/c)"),
        ("![s](hooks.py)", "docs/a.md", "a.md", "![s](hooks.py)"),  # a file that lies beside the pages
        ("![s](../docs/hooks.py)", "config/README.md", "reference/config.md", "![s](../hooks.py)"),
        ("![s](../Makefile)", "docs/a.md", "a.md", "![s](../Makefile)"),  # which the build refuses
        ("[n](none.md)", "docs/a.md", "a.md", "[n](none.md)"),  # which the build refuses
        ("`[a](../Makefile)`", "docs/a.md", "a.md", "`[a](../Makefile)`"),
        ("```\n[a](../Makefile)\n```\n", "docs/a.md", "a.md", "```\n[a](../Makefile)\n```\n"),
    ],
)
def test_rewritten__fits_the_site(text: str, origin: str, page: str, expected: str) -> None:
    assert rewritten(text, origin, page, PAGES) == expected


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with results in one file."""
    table = "| a | b |\n| --- | --- |\n| one | 1 |\n| two | 2 |\n"
    (tmp_path / "R.md").write_text(f"Text.\n\n<!-- begin won -->\n\n{table}\nWritten by hand.\n\n<!-- end won -->\n")
    monkeypatch.setattr("docs.generate.links.ROOT", tmp_path)
    return tmp_path


def test_include__puts_in_a_block(root: Path) -> None:
    assert root.is_dir()
    whole = with_blocks("Before.\n\n<!-- include R.md won -->\n\nAfter.\n")
    assert whole.startswith("Before.\n\n| a | b |\n")
    assert "| one | 1 |\n| two | 2 |\n\nWritten by hand.\n\nAfter." in whole
    part = with_blocks("<!-- include R.md won: two -->\n")
    assert part == "| a | b |\n| --- | --- |\n| two | 2 |\n\nWritten by hand.\n"


@pytest.mark.parametrize("name", ["lost", "won: three"])
def test_include__what_is_not_there_is_an_error(root: Path, name: str) -> None:
    assert root.is_dir()
    with pytest.raises(ValueError, match=r"blocks between markers|no row of the table"):
        with_blocks(f"<!-- include R.md {name} -->\n")
