"""Write the tables of keys of config/README.md and config/sources.md from the classes that describe a config.

    python -m docs.generate.config

What is between a pair of markers, such as `begin recipes` and `end recipes`, is written; the prose around it is not
touched. Help texts are the docstrings below the fields.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.pages import BLOCK, find_block
from docs.generate import ROOT
from docs.generate.methods import summary_of_methods
from docs.generate.options import table, table_of
from kd.common.options import BaseOptions
from kd.config import schema
from kd.config.reports import ReportConfig
from kd.config.resources import MemoryConfig, Resources, ResourcesConfig, StageResources
from kd.data.modalities.clip import Samples as Clips
from kd.data.modalities.image import Pixels
from kd.data.modalities.image import Samples as Images
from kd.data.options import Augmentation, SplitOptions
from kd.data.sources.base import SOURCES, archives_of, load_source
from kd.embeddings.options import CacheOptions
from kd.models.backbones.base import BACKBONES
from kd.models.spec import Checkpoint, LabelEncoderOptions, ModelSpec
from kd.reporting.base import Report
from kd.reporting.registry import reports
from kd.reporting.tables import findings, papers

README, SOURCES_PAGE = ROOT / "config" / "README.md", ROOT / "config" / "sources.md"


def docstring(module: Any) -> str:
    """The docstring of a module."""
    return inspect.cleandoc(module.__doc__)


def with_docstring(options: type[BaseOptions]) -> str:
    """What a class says of itself below its first line, and its keys."""
    _, _, text = inspect.cleandoc(options.__doc__ or "").partition("\n\n")
    return f"{text}\n\n{table_of(options)}"


def sources() -> Iterator[str]:
    """A section for each source: what its module says of itself, and its options."""
    for name in SOURCES.own():
        module: Any = load_source(name)
        text = docstring(module).removeprefix(f"`{name}`: ")
        tasks = " and ".join(f"`{task}`" for task in module.TASKS)
        options = table_of(module.Options, leave_out=("task",)) or "It has no options.\n"
        how = f" It has to be got by hand: {module.BY_HAND}." if hasattr(module, "BY_HAND") else ""
        how = " `snakemake prefetch` downloads it." if archives_of(name) else how
        yield f"## {name}\n\n{text[0].upper()}{text[1:]}\n\nFor datasets that are {tasks}.{how}\n\n{options}"


def summary_of_sources() -> str:
    """A table of all sources: a link to its section, the samples and labels that it has, and what it reads."""
    rows = []
    for name in SOURCES.own():
        source = load_source(name)
        what = docstring(source).partition("\n\n")[0].removeprefix(f"`{name}`: ").replace("\n", " ")
        tasks = ", ".join(f"`{task}`" for task in source.TASKS)
        rows.append((f"[{name}](#{name})", source.MODALITY, tasks, f"{what[0].upper()}{what[1:]}"))
    return table(("source", "samples", "labels", "what it reads"), rows)


def backbones() -> Iterator[str]:
    """A section for each backbone: what its module says of itself."""
    for name in BACKBONES.own():
        yield f"### {name}\n\n{docstring(BACKBONES.load(name))}\n"


def report_sections() -> Iterator[str]:
    """A section for each table or figure that has options: what it shows, and its options."""
    for report in reports():
        if report.model_fields:
            yield f"### {report.name()}\n\n{about(report)}\n\n{table_of(report)}{parts(report)}"


def about(report: type[Report]) -> str:
    """What a table or figure is, and its caption."""
    own = docstring(inspect.getmodule(report))
    kind = "table" if report.KIND == "table" else "figure"
    return f"The section `{report.name()}` asks for a {kind}. {own}\n\n{report.CAPTION.strip()}"


def parts(report: type[Report]) -> str:
    """Options of what the options are lists of."""
    of_each: dict[str, list[tuple[str, type[BaseOptions]]]] = {
        "papers": [("Of each comparison", papers.Comparison)],
        "findings": [("Of each claim", findings.Claim), ("Of `better` and of `worse`", findings.Side)],
    }
    return "".join(f"\n{title}:\n\n{table_of(options)}" for title, options in of_each.get(report.name(), []))


def top_of_reports() -> str:
    """Options that are no section of one table or figure."""
    return table_of(ReportConfig, leave_out=[each.name() for each in reports()])


def stages() -> str:
    """Keys of `resources` that are no sections of stages, and the names of these."""
    names = [name for name in ResourcesConfig.model_fields if name not in StageResources.model_fields]
    told = f"Stages, each with a section of its own: {', '.join(f'`{name}`' for name in names)}.\n"
    return f"{table_of(ResourcesConfig, leave_out=names)}\n{told}"


def join(sections: Callable[[], Iterator[str]]) -> Callable[[], str]:
    """Sections as one text."""
    return lambda: "\n".join(sections())


Blocks = dict[str, Callable[[], str]]
BLOCKS: Blocks = {
    "config": lambda: table_of(schema.Config),
    "datasets": lambda: table_of(schema.DatasetConfig, leave_out=("samples", *Images.model_fields)),
    "split": lambda: with_docstring(SplitOptions),
    "images": lambda: table_of(Images),
    "clips": lambda: table_of(Clips, leave_out=Pixels.model_fields),
    "models": lambda: table_of(ModelSpec),
    "label_encoder": lambda: table_of(LabelEncoderOptions),
    "checkpoint": lambda: with_docstring(Checkpoint),
    "backbones": join(backbones),
    "augmentations": lambda: table_of(Augmentation),
    "caches": lambda: table_of(CacheOptions),
    "recipes": lambda: table_of(schema.RecipeConfig),
    "teachers": lambda: table_of(schema.TeacherConfig),
    "joint_teachers": lambda: table_of(schema.JointTeacherConfig),
    "students": lambda: table_of(schema.StudentConfig),
    "methods": summary_of_methods,
    "baselines": lambda: table_of(schema.BaselineConfig),
    "memory": lambda: table_of(MemoryConfig),
    "stages": stages,
    "resources": lambda: table_of(Resources),
    "reports": top_of_reports,
    "report_sections": join(report_sections),
}


FILES = {README: BLOCKS, SOURCES_PAGE: {"all_sources": summary_of_sources, "sources": join(sources)}}
"""The blocks of each file."""


def current(text: str, blocks: Blocks = BLOCKS) -> str:
    """The text of a file with its blocks as the code has them.

    Raises:
        ValueError: a block is missing, is there twice, or is none of these.
    """
    unknown = {match["name"] for match in BLOCK.finditer(text)} - blocks.keys()
    if unknown:
        raise ValueError(f"blocks {sorted(unknown)}, expected some of {list(blocks)}")
    for name, make in blocks.items():
        start, stop = find_block(text, name).span("content")
        text = f"{text[:start]}\n{make()}\n{text[stop:]}"
    return text


def main() -> None:
    """Write the files."""
    for path, blocks in FILES.items():
        path.write_text(current(path.read_text(), blocks))


if __name__ == "__main__":
    main()
