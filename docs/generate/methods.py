"""A page for each distillation method, from the docstring of its module and its options."""

from __future__ import annotations

import re
from typing import Any

import yaml

from docs.generate.options import code, table, table_of
from kd.cli.methods import docstring_of
from kd.distillers.base import Distiller, MultiLabelDistiller
from kd.distillers.registry import METHODS, load_distiller, parse_distiller
from kd.models.spec import LEVELS

DIFFERENCES = "Differences from the authors' code:"
"""Begins the paragraph of a module's docstring that says in what it differs, or `none known`."""
CONFIG_LINE = re.compile(r"^    (distiller: \{.*\})$", re.MULTILINE)


def title_of(name: str) -> str:
    """Its first line."""
    return docstring_of(name).splitlines()[0].removesuffix(".")


def config_line(name: str) -> str:
    """The line of the docstring that shows the method as a config has it.

    Raises:
        ValueError: there is not exactly one.
    """
    found = CONFIG_LINE.findall(docstring_of(name))
    if len(found) != 1:
        raise ValueError(f"{name}: {len(found)} indented lines `distiller: {{...}}` in its docstring, expected 1")
    return str(found[0])


def python_line(name: str) -> str:
    """The same in Python."""
    options = dict(yaml.safe_load(config_line(name))["distiller"])
    arguments = [repr(options.pop("name")).replace("'", '"'), *(f"{key}={value!r}" for key, value in options.items())]
    return f"method = kd.create_method({', '.join(arguments)})".replace("'", '"')


def tasks_of(method: type[Distiller]) -> str:
    """What it is for."""
    return " and ".join(f"`{task}`" for task in method.TASKS)


def compared(method: type[Distiller]) -> str:
    """The arrays of the teacher that it reads by default, as stores name them."""

    def names(level: Any) -> str:
        return (
            ", ".join(map(code, parse_distiller({"name": method.model_fields["name"].default}).required(level).names()))
            or "none"
        )

    if not method.NEEDS_LEVEL:
        return names(None)
    return "; ".join(f"with level {level}: {names(level)}" for level in LEVELS)


def needs(method: type[Distiller]) -> str:
    """What it needs, as a table."""
    whole = "yes: several processes that train together gather it" if method.NEEDS_GLOBAL_BATCH else "no"
    own = "yes, thrown away afterwards" if method.auxiliary is not Distiller.auxiliary else "no"
    rows = [
        ("tasks of the dataset", tasks_of(method)),
        ("arrays of the teacher, with the default options", compared(method)),
        ("`level` of a student with an individual teacher", "must be given" if method.NEEDS_LEVEL else "is left out"),
        ("samples of the whole batch, which it compares with each other", whole),
        ("`mixup` and `cutmix` in the recipe", "are an error" if method.REMEMBERS_SAMPLES else "allowed"),
        ("modules of its own that are trained beside the student", own),
    ]
    return table(("it needs", ""), rows)


def page(name: str) -> str:
    """The page of a method."""
    method = load_distiller(name)
    title, _, rest = docstring_of(name).partition("\n")
    body, _, differences = CONFIG_LINE.sub("", rest).strip("\n").partition(f"{DIFFERENCES} ")
    return f"""# {title.removesuffix(".")}

{body}
## Differences from the authors' code

{differences[:1].upper()}{differences[1:]}

## What it needs

{needs(method)}
## How to ask for it

In the section `students` of a config:

```yaml
{config_line(name)}
```

In Python:

```python
{python_line(name)}
```

## Options

{table_of(method, leave_out=("name",))}
Its code is `kd/distillers/{name}.py`.
"""


def index() -> str:
    """A page with a table of all methods."""
    rows = [
        (
            f"[`{name}`]({name}.md)",
            title_of(name).partition(": ")[2],
            tasks_of(load_distiller(name)),
            compared(load_distiller(name)),
        )
        for name in METHODS.own()
    ]
    head = ("name", "what is distilled", "for datasets that are", "arrays of the teacher, by default")
    return f"""# Methods

Each method is one file in `kd/distillers`, from which its page is made. Every loss has that of the labels, too, with
the option `label_weight`. Teachers are read from a cache or computed live; arrays are called as in stores.

{table(head, rows)}"""


def summary_of_methods() -> str:
    """A line for each method, with its options and their defaults."""
    rows = []
    for name in METHODS.own():
        method = load_distiller(name)
        shared = MultiLabelDistiller.model_fields
        fields = sorted(method.model_fields.keys() - {"name"}, key=[*method.model_fields].index)
        fields.sort(key=lambda key: key in shared)
        options = ", ".join(f"`{key}` {code(method.model_fields[key].default)[1:-1]}" for key in fields)
        rows.append((f"[`{name}`](../kd/distillers/{name}.py)", tasks_of(method), options))
    return table(("name", "for datasets that are", "options and their defaults"), rows)
