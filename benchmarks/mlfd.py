"""The page of MLFD's experiments: run config/demo_experiments.yaml, and write what came out into config/mlfd/README.md.

    python -m benchmarks.mlfd

What is finished is not run again. Figures are copied beside the page.
"""

from __future__ import annotations

import argparse
import shutil

import pandas as pd

from benchmarks.experiments import finished_run, note_of, run_config
from benchmarks.readme import Block, write_block
from benchmarks.rows import ROOT
from kd.planning.plan import Plan
from kd.reporting.base import Run
from kd.reporting.layout import markdown

NAME = "demo_experiments"
PAGE = ROOT / "config/mlfd/README.md"
FIGURES = {
    "number_of_datasets": "Accuracy by number of datasets",
    "tsne": "t-SNE of the individual teacher's vectors and of the student's",
    "cost": "What it cost",
}


def block_of(plan: Plan, run: Run) -> Block:
    """The block of the page: findings, all accuracies, costs, and the figures that lie beside it."""
    tables = plan.folder / "tables"
    _, header, accuracies = (tables / "summary.md").read_text().partition("| experiment")
    parts = [
        "### Does what the paper finds hold here?",
        (tables / "findings.md").read_text(),
        "### Accuracies",
        header + accuracies,
        "### Time and storage",
        markdown(pd.read_csv(tables / "cost.csv").convert_dtypes().astype(object).fillna("")),
        *(f"![{words}]({name}.svg)" for name, words in FIGURES.items()),
    ]
    what = (
        "findings: mean difference in points ± its standard error; accuracies: on test in percent, mean ± standard"
        f" deviation over {len(run.seeds)} seeds, and the gain over `individual`."
    )
    return Block(
        NAME, "python -m benchmarks.mlfd", "\n\n".join(part.strip() for part in parts) + "\n", note_of(run, what)
    )


def main() -> None:
    """Command line."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    plan = run_config(NAME)
    for name in FIGURES:
        shutil.copy(plan.folder / "figures" / f"{name}.svg", PAGE.parent)
    write_block(PAGE, block_of(plan, finished_run(plan)))


if __name__ == "__main__":
    main()
