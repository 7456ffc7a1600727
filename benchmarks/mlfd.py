"""What came out of config/demo_experiments.yaml: run it, and write its findings, accuracies and costs into the pages.

    python -m benchmarks.mlfd

What is finished is not run again. Figures are copied beside the page of MLFD's experiments.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator

import pandas as pd

from benchmarks.experiments import finished_run, note_of, run_config
from benchmarks.pages import Block, pages_of, write_block
from benchmarks.rows import ROOT
from kd.planning.plan import Plan
from kd.reporting.base import Run
from kd.reporting.layout import markdown

CONFIG = "demo_experiments"
NAMES = ("findings", "demo_experiments", "demo_costs")
COMMAND = "python -m benchmarks.mlfd"
PAGE = ROOT / "config/mlfd/README.md"
FIGURES = ("number_of_datasets", "tsne", "cost")


def blocks_of(plan: Plan, run: Run) -> Iterator[Block]:
    """The findings, all accuracies, and what it cost."""
    tables = plan.folder / "tables"
    seeds = f"over {len(run.seeds)} seeds"
    what = f"mean difference in points ± its standard error, paired by dataset and seed, {seeds}."
    findings = (tables / "findings.md").read_text().strip()
    yield Block(NAMES[0], COMMAND, f"{findings}\n", note_of(run, what))
    _, header, accuracies = (tables / "summary.md").read_text().partition("| experiment")
    what = f"accuracies on test in percent, mean ± standard deviation {seeds}, and the gain over `individual`."
    yield Block(NAMES[1], COMMAND, f"{header}{accuracies.strip()}\n", note_of(run, what))
    costs = markdown(pd.read_csv(tables / "cost.csv").convert_dtypes().astype(object).fillna(""))
    yield Block(NAMES[2], COMMAND, costs, note_of(run, "time and stored bytes of the whole run."))


def main() -> None:
    """Command line."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    pages = pages_of(NAMES)
    plan = run_config(CONFIG)
    for name in FIGURES:
        shutil.copy(plan.folder / "figures" / f"{name}.svg", PAGE.parent)
    for block in blocks_of(plan, finished_run(plan)):
        write_block(pages[block.name], block)


if __name__ == "__main__":
    main()
