"""What MkDocs calls while it builds the site: adds the pages that are generated, and finishes links and results."""

from __future__ import annotations

from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from docs.generate import ROOT
from docs.generate.links import rewritten, with_blocks
from docs.generate.pages import DOCUMENTS, all_pages, example, examples, figures, generated

ORIGINS = {page: file for file, page in {**DOCUMENTS, **examples()}.items()}
"""Files of the repository, by the pages of the site that are made from them."""
EVERYTHING_IN = "/*"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """In the navigation, `FOLDER/*` means the generated pages of that folder."""
    config.nav = _expanded(config.nav)
    return config


def _expanded(nav: Any) -> Any:
    if isinstance(nav, dict):
        return {title: _expanded(each) for title, each in nav.items()}
    if not isinstance(nav, list):
        return nav
    made: list[Any] = []
    for each in nav:
        if isinstance(each, str) and each.endswith(EVERYTHING_IN):
            folder = each.removesuffix(EVERYTHING_IN)
            found = sorted(page for page in (*generated(), *ORIGINS) if page.rpartition("/")[0] == folder)
            made += sorted(found, key=lambda page: not page.endswith("/index.md"))
        else:
            made.append(_expanded(each))
    return made


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that do not lie in `docs`."""
    for page, make in generated().items():
        files.append(File.generated(config, page, content=make()))
    for page, file in ORIGINS.items():
        path = ROOT / file
        files.append(File.generated(config, page, content=path.read_text() if path.suffix == ".md" else example(path)))
    for file, place in figures().items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / file)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Put in blocks of results, and turn links within the repository to those of the site."""
    place, pages = page.file.src_uri, all_pages()
    origin = ORIGINS.get(place, f"docs/{place}")
    finished = rewritten(markdown, origin, place, pages)
    return with_blocks(finished, lambda block, file: rewritten(block, file, place, pages))
