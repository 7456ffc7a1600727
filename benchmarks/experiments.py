"""Tables of accuracies on the pages: run the configs that they are of, and write what came out.

    python -m benchmarks.experiments [NAME ...] [--small] [--page FILE]

NAME is one of `SUMMARIES`, whose table is that of summary.md or of metrics.md, with the verdict of the run; of
`SEARCHES`, whose table has scores on val, by which settings are chosen; or of `EXPERIMENTS`, whose table has test acc@1
in percent, a mean over datasets and seeds, and differences to the first line, paired by dataset and seed, with the
standard error of their mean. Default: all of them. Finished parts of a run are not run again. `--small` trains for an
epoch on a few images (for `EXPERIMENTS`, of one dataset), in a temporary folder.
"""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from benchmarks.jobs import make_plan
from benchmarks.pages import MEANINGLESS, Block, make_parser, places_of, write_block
from benchmarks.rows import ROOT, table
from kd.artefacts.manifest import read_manifest
from kd.config.load import load_config
from kd.planning.plan import Plan
from kd.reporting.base import Run
from kd.reporting.layout import markdown, readable, with_spreads
from kd.reporting.statistics import headline, measurements, metrics_side_by_side, summary
from kd.reporting.tables.cache import cache_table
from kd.reporting.verdict import verdict
from kd.training.metrics import VAL
from tests.conftest import make


@dataclass(frozen=True)
class Experiment:
    """What the table of a config compares.

    Attributes:
        column: its first header.
        lines: the first cell of each line, by experiment and method of the tables; the first line is the reference.
    """

    column: str
    lines: dict[tuple[str, str], str]


EXPERIMENTS = {
    "cache_views": Experiment(
        "views of each image, stored in float16",
        {("views_1", "individual"): "(the individual teachers)"}
        | {(f"views_{views}", "student"): str(views) for views in (1, 2, 4, 8)}
        | {("live", "student"): "live"},
    ),
    "cache_precision": Experiment(
        "precision of 8 stored views",
        {(dtype, "student"): dtype for dtype in ("float32", "int8")},
    ),
    "training_precision": Experiment(
        "precision of training",
        {("training_precision", "individual"): "float32", ("training_precision", "joint_baseline"): "bf16-mixed"},
    ),
}
SUMMARIES = {"demo": "config", "scenes": "multilabel", "action": "action"}
"""Blocks that hold the summary of a run, and their configs."""
METRICS = {"action": ("acc@1", "mAP")}
"""Of these blocks, those whose table has several metrics side by side."""
SEARCHES = ("demo_search",)
"""Blocks that hold scores on val, and their configs: each experiment is a setting, of which one is to be chosen."""
NAMES = (*SUMMARIES, *SEARCHES, *EXPERIMENTS)


def comparison_of(run: Run, experiment: Experiment) -> tuple[str, str]:
    """The table of one of `EXPERIMENTS`, with stored bytes where its students have any, and what its numbers are."""
    measured = measurements(run)
    columns = ["experiment", "method", "dataset", "seed"]
    values = headline(measured, run.selection).set_index(columns)["value"].sort_index()
    stored = cache_table(run, measured).groupby(["experiment", "method"])["bytes_per_sample"].mean()
    lines = [[experiment.column, "acc@1", "difference", *(["KiB per training image"] if len(stored) else [])]]
    first, *_ = experiment.lines
    for place, label in experiment.lines.items():
        difference = values.loc[place] - values.loc[first].loc[values.loc[place].index]
        shown = "" if place == first else f"{difference.mean():+.2f} ± {difference.sem():.2f}"
        lines.append([label, f"{values.loc[place].mean():.1f}", shown])
        if len(stored):
            lines[-1].append(f"{stored[place] / 1024:.1f}" if place in stored.index else "")
    datasets = ", ".join(run.datasets)
    what = (
        f"test acc@1 in percent, a mean over {datasets} and {len(run.seeds)} seeds; differences to the first line, in"
        " points, paired by dataset and seed, with the standard error of their mean."
    )
    return table(lines), note_of(run, what)


def summary_of(run: Run, metrics: Sequence[str] = ()) -> tuple[str, str]:
    """The table of summary.md, or one of several metrics, with the verdict of the run, and what its numbers are."""
    measured = measurements(run)
    found = summary(measured, run.datasets)
    what = f"on test in percent, mean ± standard deviation over {len(run.seeds)} seeds"
    if metrics:
        wide = metrics_side_by_side(found, run.selection, "single_label", metrics)
        shown = with_spreads(wide.drop(columns="n_seeds"), dict.fromkeys(metrics, 1))
    else:
        shown = readable(found, run.selection)
        what += ", and the gain in points over `vanilla`, where the experiment has it for the dataset,"
        what += " else over `individual`"
    told = "".join(f"- {paragraph}\n" for paragraph in verdict(run, measured).strip().split("\n\n"))
    return f"{markdown(shown).strip()}\n\n{told}", note_of(run, f"{what}.")


def scores_of(run: Run) -> tuple[str, str]:
    """The table of a search, each setting's students and means over their levels, and what its numbers are."""
    measured = measurements(run)
    on_val = measured[
        (measured["metric"] == f"{VAL}acc@1")
        & (measured["selection"] == run.selection)
        & (measured["experiment"] != run.experiment)  # that of the teachers
    ]
    means = on_val.groupby(["experiment", "method", "level"])["value"].mean().unstack(["method", "level"])
    header, columns = ["setting"], []
    for kind in ("student", "single_dataset_kd"):
        levels = means[[column for column in means.columns if column[0].startswith(kind)]]
        header += [*(f"`{column[0]}` {column[1]}" for column in levels.columns), "mean"]
        columns += [*(levels[column] for column in levels.columns), levels.mean(axis="columns")]
    scores = pd.concat(columns, axis="columns").map("{:.2f}".format)
    lines = [header, *(list(map(str, line)) for line in scores.itertuples(name=None))]
    return table(lines), note_of(run, f"acc@1 on val, mean of seeds {', '.join(map(str, run.seeds))}.")


def note_of(run: Run, what: str) -> str:
    """What the numbers are, what was run, on what, and how long it took."""
    manifests = [run.read(job) for job in run.jobs.values()]
    devices = " and ".join(sorted({manifest["device"] for manifest in manifests}))
    minutes = sum(manifest["seconds"] for manifest in manifests) / 60
    last = max(job.manifest.stat().st_mtime for job in run.jobs.values())
    date = dt.datetime.fromtimestamp(last, tz=dt.UTC).date()
    return f"on {date}: {what} {len(manifests)} jobs, {minutes:.0f} minutes of work, on {devices}."


def shrunk(config: dict[str, Any]) -> dict[str, Any]:
    """The same in seconds: a few images and one epoch; of `EXPERIMENTS` the first dataset alone, and two seeds."""
    is_compared = config["experiment"] in EXPERIMENTS
    kept = list(config["datasets"])[: 1 if is_compared else None]
    split = {"train": 40, "val": 20, "test": 20}
    baselines = config.get("baselines", {}).items()
    return config | {
        "seeds": [0, 1] if is_compared else [0],
        "datasets": {name: config["datasets"][name] | {"split": split} for name in kept},
        "teachers": {key: each for key, each in config["teachers"].items() if each["dataset"] in kept},
        "recipes": {key: each | {"epochs": 1} for key, each in config["recipes"].items()},
        "baselines": {key: each for key, each in baselines if not set(kept).isdisjoint(each.get("datasets", kept))},
    }


def path_of(name: str) -> Path:
    """A config."""
    return ROOT / "config" / f"{SUMMARIES.get(name, name)}.yaml"


def load(name: str) -> dict[str, Any]:
    """What a config says."""
    config: dict[str, Any] = yaml.safe_load(path_of(name).read_text())
    return config


def run_config(name: str) -> Plan:
    """Run a config by the workflow; its plan."""
    profile = ROOT / "workflow/profiles/workstation"
    command = [sys.executable, "-m", "snakemake", "--workflow-profile", str(profile)]
    subprocess.run([*command, "--configfile", str(path_of(name))], check=True, cwd=ROOT)
    config = load_config(load(name))
    return Plan(config.model_copy(update={"results": ROOT / config.results}))


def run_small(name: str, folder: Path) -> Plan:
    """The plan of the same with next to no data, whose jobs were run in this process."""
    plan = make_plan(folder, shrunk(load(name)))
    for job in plan.run().jobs.values():
        make(job)
    return plan


def finished_run(plan: Plan) -> Run:
    """The run of a plan of which all is finished; each manifest is read once."""
    manifests = {directory: read_manifest(job) for directory, job in plan.run().jobs.items()}
    return replace(plan.run(), read=lambda job: manifests[job.directory])


def make_block(name: str, *, small: bool) -> Block:
    """Run a config, and make its table."""
    with tempfile.TemporaryDirectory() as folder:
        run = finished_run(run_small(name, Path(folder)) if small else run_config(name))
        if name in SUMMARIES:
            content, note = summary_of(run, METRICS.get(name, ()))
        elif name in SEARCHES:
            content, note = scores_of(run)
        else:
            content, note = comparison_of(run, EXPERIMENTS[name])
        command = f"python -m benchmarks.experiments {name}{' --small' if small else ''}"
        return Block(name, command, content, note + (MEANINGLESS if small else ""))


def main() -> None:
    """Command line."""
    options = make_parser(__doc__, NAMES).parse_args()
    names = options.names or NAMES
    pages = places_of(options, names)
    for name in names:
        block = make_block(name, small=options.small)
        print(block, flush=True)
        if name in pages:
            write_block(pages[name], block)


if __name__ == "__main__":
    main()
