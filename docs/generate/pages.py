"""All pages of the site that do not lie in `docs`: generated ones, and documents of the repository."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

from docs.generate import ROOT, cli, disk_format, messages, methods
from kd.distillers.registry import METHODS

DOCUMENTS = {
    "config/README.md": "reference/config.md",
    "config/sources.md": "reference/sources.md",
    "config/mlfd/README.md": "mlfd_experiments.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
"""Documents of the repository, and where the site has them."""
EXTENDING = (
    ("Methods", "kd.distillers.base"),
    ("Sources", "kd.data.sources.base"),
    ("Backbones", "kd.models.backbones.base"),
    ("Modalities", "kd.data.modalities.base"),
    ("Tables and figures", "kd.reporting.base"),
)
"""What one's own parts implement."""


def public_names() -> list[str]:
    """The names in `kd.api.__all__`, without importing it, which takes seconds."""
    body = ast.parse((ROOT / "kd" / "api.py").read_text()).body
    (names,) = (
        each.value for each in body if isinstance(each, ast.Assign) and ast.unparse(each).startswith("__all__ = ")
    )
    return list(ast.literal_eval(names))


def api() -> str:
    """The public names of the package, and the interfaces of what one can add."""
    names = public_names()
    sections = [f"::: kd.{name}\n    options: {{heading_level: 2}}\n" for name in names]
    own = [f"## {title}\n\n::: {module}\n" for title, module in EXTENDING]
    head = "# Python\n\n`import kd` has the names below; all else may change from one version to the next.\n"
    more = "# Parts of your own\n\nWhat a module implements that a config names, or an entry point.\n"
    return "\n".join([head, *sections, more, *own])


def example(path: Path) -> str:
    """A script as its docstring and its code; a notebook as its cells, with what they printed."""
    if path.suffix == ".ipynb":
        return "\n\n".join(_cell(cell) for cell in json.loads(path.read_text())["cells"]) + "\n"
    text = path.read_text()
    title, _, rest = (ast.get_docstring(ast.parse(text)) or path.stem).partition("\n")
    file = path.relative_to(ROOT).as_posix()
    return f"# {title.rstrip('.')}\n{rest}\n\nThis is `{file}`:\n\n```python\n{text}```\n"


def _cell(cell: dict[str, object]) -> str:
    def joined(value: object) -> str:
        return value if isinstance(value, str) else "".join(value) if isinstance(value, list) else ""

    source = joined(cell["source"])
    if cell["cell_type"] != "code":
        return source
    outputs = cell.get("outputs", [])
    assert isinstance(outputs, list)
    printed = [joined(each.get("text") or each.get("data", {}).get("text/plain")) for each in outputs]
    shown = "".join(f"\n\n```text\n{text.rstrip()}\n```" for text in printed if text.strip())
    return f"```python\n{source}\n```{shown}"


def examples() -> dict[str, str]:
    """Files of examples by their path in the repository, and where the site has them."""
    found = sorted(path for path in (ROOT / "examples").glob("*") if path.suffix in (".py", ".ipynb"))
    return {path.relative_to(ROOT).as_posix(): f"examples/{path.stem}.md" for path in found}


def figures() -> dict[str, str]:
    """Images that lie beside the documents, by their path in the repository, and where the site has them."""
    folders = {(ROOT / file).parent for file in DOCUMENTS} - {ROOT}
    found = sorted(path for folder in folders for path in folder.glob("*.svg"))
    return {path.relative_to(ROOT).as_posix(): f"figures/{path.name}" for path in found}


def examples_index() -> str:
    """A page that lists the examples."""
    lines = [f"- [{Path(file).name}]({Path(page).name})" for file, page in examples().items()]
    return "\n".join(["# Examples\n", "Each is run by the tests.\n", *lines]) + "\n"


def generated() -> dict[str, Callable[[], str]]:
    """What makes each page that lies nowhere in the repository, by its path on the site."""
    made: dict[str, Callable[[], str]] = {
        "reference/api.md": api,
        "reference/cli.md": cli.page,
        "reference/disk_format.md": disk_format.page,
        "reference/messages.md": messages.page,
        "reference/methods/index.md": methods.index,
    }
    made |= {f"reference/methods/{name}.md": partial(methods.page, name) for name in METHODS.own()}
    return made | ({"examples/index.md": examples_index} if examples() else {})


def all_pages() -> dict[str, str]:
    """Paths of all pages of the site, by those of the files in the repository that they are made from.

    A generated page has the path that it would have, did it lie in `docs`.
    """
    written = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")]
    pages = {f"docs/{page}": page for page in (*written, *generated())}
    methods_of = {f"kd/distillers/{name}.py": f"reference/methods/{name}.md" for name in METHODS.own()}
    return DOCUMENTS | examples() | figures() | methods_of | pages
