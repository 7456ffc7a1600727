"""Tables as people read them: Markdown and HTML, in which nothing that a user named is markup."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from kd.reporting.statistics import headline, measurements, metrics_side_by_side, primary_metrics, summary

if TYPE_CHECKING:
    from kd.data.options import Task
    from kd.reporting.base import Run

STYLE = "<style>body{font-family:sans-serif} td,th{padding:2px 8px} table{border-collapse:collapse}</style>"


def readable(table: pd.DataFrame, selection: str) -> pd.DataFrame:
    """For people: acc@1 or mAP as mean ± std (gain), one line per method and level, one column per dataset."""
    chosen = headline(table, selection)
    headers = {
        dataset: dataset if metric == "acc@1" else f"{dataset} ({metric})"
        for dataset, metric in primary_metrics(chosen).items()
    }
    lines: dict[tuple[str, ...], dict[str, str]] = {}
    for line in chosen.to_dict("records"):
        place = {column: line[column] for column in ("experiment", "method", "level")}
        cells = lines.setdefault(tuple(place.values()), place | dict.fromkeys(headers.values(), ""))
        gain = "" if pd.isna(line["gain"]) else f" ({line['gain']:+.1f})"
        cells[headers[line["dataset"]]] = mean_and_std(line["mean"], line["std"], digits=1) + gain
    return pd.DataFrame(list(lines.values()))


def mean_and_std(mean: float, std: float, digits: int) -> str:
    """`mean ± std`; without the latter where there is none, as of a single seed."""
    return f"{mean:.{digits}f}" if pd.isna(std) else f"{mean:.{digits}f} ± {std:.{digits}f}"


def with_spreads(table: pd.DataFrame, digits: Mapping[str, int]) -> pd.DataFrame:
    """For people: `mean ± std` in the place of the columns NAME and NAME_std.

    Args:
        table: as from `kd.reporting.predictions.over_seeds`.
        digits: behind the point, of each NAME.
    """
    texts = {
        name: [
            "" if pd.isna(mean) else mean_and_std(mean, std, count)
            for mean, std in zip(table[name], table[f"{name}_std"], strict=True)
        ]
        for name, count in digits.items()
    }
    return table.drop(columns=[f"{name}_std" for name in digits]).assign(**texts)


def literal(text: str) -> str:
    """Text for Markdown, as it stands: nothing in it is markup, and it has one line."""
    escaped = re.sub(r"[\\`*<&|\[\]~$]|(?<!\w)_|_(?!\w)", r"\\\g<0>", text)
    return re.sub(r"\s*[\r\n]+\s*", " ", escaped)


def markdown(table: pd.DataFrame) -> str:
    """A table in Markdown."""
    cells = [list(table.columns), *table.astype(str).to_numpy().tolist()]
    lines = ["| " + " | ".join(map(literal, line)) + " |\n" for line in cells]
    return "".join([lines[0], "| " + " | ".join(["---"] * len(table.columns)) + " |\n", *lines[1:]])


def html_table(table: pd.DataFrame) -> str:
    """A table in HTML; no cell is cut, nothing in it is markup, and what is missing is empty."""
    with pd.option_context("display.max_colwidth", None):
        page: str = table.to_html(index=False, na_rep="")
    return page


def metrics_table(name: str, run: Run, task: Task, metrics: Sequence[str]) -> dict[str, str]:
    """The files of a table of several metrics side by side: NAME.csv and, for people, NAME.md and NAME.html."""
    wide = metrics_side_by_side(summary(measurements(run), run.datasets), run.selection, task, metrics)
    short = with_spreads(wide.drop(columns="n_seeds"), dict.fromkeys(metrics, 2))
    kind = task.replace("_", "-")
    title = f"test metrics of {kind} datasets in percent, mean ± std over seeds, weights: {run.selection}"
    return {
        f"{name}.csv": wide.to_csv(index=False),
        f"{name}.md": f"{title}\n\n{markdown(short)}",
        f"{name}.html": f"{STYLE}<p>{title}</p>{html_table(short)}",
    }
