"""Our results beside the numbers that papers print: those of their supplements, in `papers/NAME.csv`.

`mlfd`: multi-level feature distillation of joint teachers trained on distinct image datasets; columns table,
experiment, level, n_datasets, method, dataset, metric, value. `l2d`: multi-label knowledge distillation (Yang et al.,
ICCV 2023); columns table, setting, dataset, teacher, student, method, metric, value. Values are in percent.
"""

from __future__ import annotations

import csv
import html
from functools import cache
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import MinLen
from pydantic import model_validator

from kd.common.errors import UserError
from kd.common.options import BaseOptions
from kd.reporting.base import Run, Table

if TYPE_CHECKING:
    import pandas as pd

PAPERS = Path(__file__).with_suffix("")
OUR_NAMES = {
    "l2d": {"teacher": "individual", "student": "vanilla"},
    "mlfd": {
        "joint": "joint_teacher",
        "individual_light": "individual",
        "individual_deep": "individual",
        "kd_light_to_light": "single_dataset_kd",
        "kd_deep_to_light": "single_dataset_kd",
        "student_same_dataset": "student",
        "student_without_own_dataset": "student",
    },
}
"""What papers call methods, where we call them otherwise."""
COLUMNS = ("method", "level", "metric", "paper", "ours", "std", "gain", "gain_se", "n_seeds", "differs")


class Comparison(BaseOptions):
    """Our numbers beside those that a paper prints."""

    paper: Literal["l2d", "mlfd"]
    """The paper: L2D's or MLFD's supplement."""
    where: Annotated[dict[str, str | int | Annotated[list[str | int], MinLen(1)]], MinLen(1)]
    """Columns of `kd/reporting/tables/papers/PAPER.csv` with a value or a list of values each, so that one experiment
    on one dataset is meant, such as `{table: S3, dataset: voc2007, teacher: resnet50, student: resnet18}`."""
    dataset: str | None = None
    """Dataset of ours; `null`: all that are called as in the paper, side by side."""
    experiment: str | None = None
    """Experiment of ours in the tables; `null`: that of the config."""
    title: str | None = None
    """Comparisons of one title are one table, with a column for the experiment; `null`: a table of its own."""
    differs: str
    """What is not as in the paper, in words, for the table."""


class Report(Table):
    """`papers.csv`, `.md` and `.html`: a table for each comparison, or for those of one title."""

    CAPTION = """\
What the papers print beside what this run measured, and what differs in the setting.
"""
    comparisons: Annotated[list[Comparison], MinLen(1)]
    """List of comparisons, which may also stand directly below `papers`; their keys are below."""

    @model_validator(mode="before")
    @classmethod
    def _list(cls, given: Any) -> Any:
        return {"comparisons": given} if isinstance(given, list) else given

    def check(self, run: Run) -> None:
        """Check that each experiment has rows of ours and numbers of the paper."""
        for number, each in enumerate(self.comparisons):
            try:
                for one in by_dataset(each, run):
                    printed_numbers(one)
            except UserError as error:
                raise UserError(f"{number}.{error}") from error

    def texts(self, run: Run) -> dict[str, str]:
        """Numbers of papers beside ours, experiment by experiment."""
        import pandas as pd

        from kd.reporting.layout import STYLE, html_table, literal, markdown
        from kd.reporting.statistics import measurements, summary

        table = summary(measurements(run), run.datasets)
        tables: dict[str, list[pd.DataFrame]] = {}
        for wanted in self.comparisons:
            experiment = wanted.experiment or run.experiment
            where = ", ".join(str(value) for value in wanted.where.values())
            on = "" if wanted.dataset is None else f" on {wanted.dataset}"
            title = wanted.title or f"{experiment}{on} beside {wanted.paper} ({where})"
            for each in by_dataset(wanted, run):
                compared = beside_paper(table, each, experiment, run.selection)
                place = {
                    "dataset": each.dataset,
                    "paper_experiment": f"{each.paper}: {where}",
                    "experiment": experiment,
                }
                tables.setdefault(title, []).append(compared.assign(**place))
        short, page = "", STYLE
        for title, parts in tables.items():
            shown = readable_beside_paper(pd.concat(parts))
            short += f"## {literal(title)}\n\n{markdown(shown)}\n"
            page += f"<h3>{html.escape(title)}</h3>{html_table(shown)}"
        whole = pd.concat([part for parts in tables.values() for part in parts])
        return {"papers.csv": whole.to_csv(index=False), "papers.md": short, "papers.html": page}


def by_dataset(wanted: Comparison, run: Run) -> list[Comparison]:
    """A comparison for each dataset that is meant.

    Raises:
        UserError: there is none of ours. The text begins with the option that is wrong.
    """
    if wanted.dataset is not None:
        run.rows_of(wanted.dataset, wanted.experiment)
        return [wanted]
    printed = dict.fromkeys(line["dataset"] for line in _lines(wanted))
    measured = {row.dataset for row in run.rows if row.experiment == (wanted.experiment or run.experiment)}
    found = [dataset for dataset in run.datasets if dataset in printed and dataset in measured]
    if not found:
        raise UserError(
            f"experiment: {wanted.experiment or run.experiment!r} has no row for a dataset of the paper"
            f" ({', '.join(printed)}); its datasets: {', '.join(sorted(measured)) or 'none'}"
        )
    return [wanted.model_copy(update={"dataset": each, "where": wanted.where | {"dataset": each}}) for each in found]


def printed_numbers(wanted: Comparison) -> dict[tuple[str, str, str], float]:
    """The numbers that a paper prints, in percent, by method (our name), level (empty: none is given) and metric.

    The plan reads them, so this imports no pandas.

    Raises:
        UserError: there is no such column or value, or several numbers are for one method and metric. The text begins
            with the option that is wrong.
    """
    paper, lines = wanted.paper, _lines(wanted)
    found: dict[tuple[str, str, str], dict[str, str]] = {}
    for line in lines:
        place = (OUR_NAMES[paper].get(line["method"], line["method"]), line.get("level", ""), line["metric"])
        other = found.setdefault(place, line)
        if other is not line:
            told = " ".join(filter(None, place))
            differing = [column for column in line if column != "value" and line[column] != other[column]]
            raise UserError(f"where: several numbers for {told}; pick out one experiment by {', '.join(differing)}")
    return {place: float(line["value"]) for place, line in found.items()}


@cache
def _printed_by(paper: str) -> list[dict[str, str]]:
    """All lines of a paper."""
    with (PAPERS / f"{paper}.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def _lines(wanted: Comparison) -> list[dict[str, str]]:
    """The lines of a paper that a comparison means."""
    paper, lines = wanted.paper, _printed_by(wanted.paper)
    columns = list(lines[0])
    for column, meant in wanted.where.items():
        if column not in columns:
            raise UserError(f"where: {paper}.csv has no column {column!r}, expected some of {', '.join(columns)}")
        values = [str(each) for each in ([meant] if isinstance(meant, str | int) else meant)]
        known = dict.fromkeys(line[column] for line in lines)
        unknown = [value for value in values if value not in known]
        if unknown:
            raise UserError(f"where.{column}: {unknown[0]!r}, expected some of {', '.join(map(repr, known))}")
        lines = [line for line in lines if line[column] in values]
    return lines


def beside_paper(table: pd.DataFrame, wanted: Comparison, experiment: str, selection: str) -> pd.DataFrame:
    """Each method, level and metric of an experiment of ours with what the paper has for it: `COLUMNS`.

    `paper` and `ours` are in percent, `std` is that of ours over seeds. Where the paper has nothing, or we have
    nothing, there is NaN. A line of the paper without a level stands for any level of ours.

    Args:
        table: as from `kd.reporting.statistics.summary`.
        wanted: what is compared.
        experiment: ours.
        selection: weights that are meant.

    Raises:
        UserError: as `printed_numbers`.
    """
    import pandas as pd

    from kd.reporting.statistics import method_order

    numbers = printed_numbers(wanted)
    place = {"experiment": experiment, "dataset": wanted.dataset, "selection": selection, "variant": ""}
    chosen = table[(table[list(place)] == pd.Series(place)).all(axis=1)]
    lines, compared = [], set()
    for ours in chosen.to_dict("records"):
        exact, any_level = ((ours["method"], level, ours["metric"]) for level in (ours["level"], ""))
        key = exact if exact in numbers else any_level
        compared.add(key)
        own = (ours["mean"], ours["std"], ours["gain"], ours["gain_se"], ours["n_seeds"])
        lines.append((*exact, numbers.get(key), *own, wanted.differs))
    lacking = (None, None, None, None, 0, wanted.differs)
    lines += [(*key, value, *lacking) for key, value in numbers.items() if key not in compared]
    lines.sort(key=lambda line: (method_order(line[0]), line[1]))
    numeric = dict.fromkeys(("paper", "ours", "std", "gain", "gain_se"), float)
    return pd.DataFrame(lines, columns=list(COLUMNS)).astype(numeric)


def readable_beside_paper(compared: pd.DataFrame) -> pd.DataFrame:
    """For people, as papers lay it out: methods by metrics, of several datasets side by side; then what differs.

    Each cell has the paper's number or ours as mean ± std; of several datasets, all metrics in one cell. `gain` is what
    the first metric gains over a network that is trained with labels alone, with its standard error.

    Args:
        compared: as from `beside_paper`, with columns `dataset` and `experiment`. Metrics that the paper does not print
            are left out; where there is nothing, there is nothing.
    """
    several = compared["experiment"].nunique() > 1
    names = ["experiment", "method", "level"] if several else ["method", "level"]
    metrics = list(compared.loc[compared["paper"].notna(), "metric"].drop_duplicates())
    # A network that is trained with labels alone is in several experiments, and the same in all.
    alone = (compared["method"] == "individual") & several
    shown = compared.assign(experiment=compared["experiment"].mask(alone, "")).drop_duplicates(
        [*names, "dataset", "metric"]
    )
    lines = shown.drop_duplicates(names).set_index(names)
    table = lines[[]].copy()
    for dataset in shown["dataset"].drop_duplicates():
        here = shown[shown["dataset"] == dataset].set_index([*names, "metric"])
        parts = {metric: here.xs(metric, level="metric").reindex(lines.index) for metric in metrics}
        if shown["dataset"].nunique() == 1:
            for metric, found in parts.items():
                table[f"{metric} paper"], table[f"{metric} ours"] = _printed(found), _measured(found)
        else:
            table[f"{dataset} paper"] = _joined([_printed(each) for each in parts.values()])
            table[f"{dataset} ours"] = _joined([_measured(each) for each in parts.values()])
        first = parts[metrics[0]]
        table["gain" if shown["dataset"].nunique() == 1 else f"{dataset} gain"] = _gains(first)
    return table.assign(differs=lines["differs"]).reset_index()


def _printed(found: pd.DataFrame) -> list[str]:
    return ["" if isnan(value) else f"{value:.2f}" for value in found["paper"]]


def _measured(found: pd.DataFrame) -> list[str]:
    from kd.reporting.layout import mean_and_std

    pairs = zip(found["ours"], found["std"], strict=True)
    return ["" if isnan(mean) else mean_and_std(mean, std, digits=2) for mean, std in pairs]


def _gains(found: pd.DataFrame) -> list[str]:
    pairs = zip(found["gain"], found["gain_se"], strict=True)
    return ["" if isnan(gain) else f"{gain:+.2f}" + ("" if isnan(se) else f" ± {se:.2f}") for gain, se in pairs]


def _joined(columns: list[list[str]]) -> list[str]:
    """Cells of several metrics as one."""
    return [" / ".join(cells) if any(cells) else "" for cells in zip(*columns, strict=True)]
