"""Our results beside the numbers that papers print: those of their supplements, in `papers/NAME.csv`.

`mlfd`: multi-level feature distillation of joint teachers trained on distinct image datasets; columns table,
experiment, level, n_datasets, method, dataset, metric, value. `l2d`: multi-label knowledge distillation (Yang et al.,
ICCV 2023); columns table, setting, dataset, teacher, student, method, metric, value. Values are in percent.
"""

from __future__ import annotations

import csv
import html
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
        "kd_light_to_light": "single_dataset_kd",
        "student_same_dataset": "student",
        "student_without_own_dataset": "student",
    },
}
"""What papers call methods, where we call them otherwise."""
COLUMNS = ("method", "level", "metric", "paper", "ours", "std", "n_seeds", "differs")


class Comparison(BaseOptions):
    """Our numbers beside those that a paper prints."""

    paper: Literal["l2d", "mlfd"]
    """Which."""
    where: Annotated[dict[str, str | int | Annotated[list[str | int], MinLen(1)]], MinLen(1)]
    """Columns of kd/reporting/tables/papers/PAPER.csv -> value or values, so that one experiment on one dataset is
    meant, such as {table: S3, dataset: voc2007, teacher: resnet50, student: resnet18}."""
    dataset: str
    """Ours."""
    experiment: str | None = None
    """Ours; null: the config's."""
    differs: str
    """What is not as in the paper, in words; stands in the table."""


class Report(Table):
    """`papers.csv`, `.md` and `.html`: a table for each comparison."""

    CAPTION = """\
What the papers print beside what this run measured, and what differs in the setting.
"""
    comparisons: Annotated[list[Comparison], MinLen(1)]
    """One table for each; in the config they may stand directly below `papers`."""

    @model_validator(mode="before")
    @classmethod
    def _list(cls, given: Any) -> Any:
        return {"comparisons": given} if isinstance(given, list) else given

    def check(self, run: Run) -> None:
        """Check that each experiment has rows of ours and numbers of the paper."""
        for number, each in enumerate(self.comparisons):
            try:
                run.rows_of(each.dataset, each.experiment)
                printed_numbers(each)
            except UserError as error:
                raise UserError(f"{number}.{error}") from error

    def texts(self, run: Run) -> dict[str, str]:
        """Numbers of papers beside ours, experiment by experiment."""
        import pandas as pd

        from kd.reporting.layout import STYLE, html_table, literal, markdown
        from kd.reporting.statistics import measurements, summary

        table = summary(measurements(run), run.datasets)
        whole, short, page = [], "", STYLE
        for wanted in self.comparisons:
            experiment = wanted.experiment or run.experiment
            compared = beside_paper(table, wanted, experiment, run.selection)
            where = ", ".join(str(value) for value in wanted.where.values())
            whole.append(compared.assign(paper_experiment=f"{wanted.paper}: {where}", experiment=experiment))
            title = f"{experiment} on {wanted.dataset} beside {wanted.paper} ({where})"
            table_of_both = readable_beside_paper(compared)
            short += f"## {literal(title)}\n\n{markdown(table_of_both)}\n"
            page += f"<h3>{html.escape(title)}</h3>{html_table(table_of_both)}"
        return {"papers.csv": pd.concat(whole).to_csv(index=False), "papers.md": short, "papers.html": page}


def printed_numbers(wanted: Comparison) -> dict[tuple[str, str, str], float]:
    """The numbers that a paper prints, in percent, by method (our name), level (empty: none is given) and metric.

    The plan reads them, so this imports no pandas.

    Raises:
        UserError: there is no such column or value, or several numbers are for one method and metric. The text begins
            with the option that is wrong.
    """
    paper = wanted.paper
    with (PAPERS / f"{paper}.csv").open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        columns, lines = list(reader.fieldnames or []), list(reader)
    for column, meant in wanted.where.items():
        if column not in columns:
            raise UserError(f"where: {paper}.csv has no column {column!r}, expected some of {', '.join(columns)}")
        values = [str(each) for each in ([meant] if isinstance(meant, str | int) else meant)]
        known = dict.fromkeys(line[column] for line in lines)
        unknown = [value for value in values if value not in known]
        if unknown:
            raise UserError(f"where.{column}: {unknown[0]!r}, expected some of {', '.join(map(repr, known))}")
        lines = [line for line in lines if line[column] in values]
    found: dict[tuple[str, str, str], dict[str, str]] = {}
    for line in lines:
        place = (OUR_NAMES[paper].get(line["method"], line["method"]), line.get("level", ""), line["metric"])
        other = found.setdefault(place, line)
        if other is not line:
            told = " ".join(filter(None, place))
            differing = [column for column in columns if column != "value" and line[column] != other[column]]
            raise UserError(f"where: several numbers for {told}; pick out one experiment by {', '.join(differing)}")
    return {place: float(line["value"]) for place, line in found.items()}


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
        lines.append((*exact, numbers.get(key), ours["mean"], ours["std"], ours["n_seeds"], wanted.differs))
    lines += [(*key, value, None, None, 0, wanted.differs) for key, value in numbers.items() if key not in compared]
    lines.sort(key=lambda line: (method_order(line[0]), line[1]))
    return pd.DataFrame(lines, columns=list(COLUMNS)).astype({"paper": float, "ours": float, "std": float})


def readable_beside_paper(compared: pd.DataFrame) -> pd.DataFrame:
    """For people, as papers lay it out: methods by metrics, each the paper's and ours as mean ± std; then what differs.

    Args:
        compared: as from `beside_paper`. Metrics that the paper does not print are left out; where there is nothing,
            there is nothing.
    """
    import pandas as pd

    from kd.reporting.layout import mean_and_std

    metrics = compared.loc[compared["paper"].notna(), "metric"].drop_duplicates()
    lines = compared.drop_duplicates(["method", "level"])[["method", "level", "differs"]].set_index(["method", "level"])
    by_metric = compared.set_index(["method", "level", "metric"])
    table = lines.drop(columns="differs")
    for metric in metrics:
        found = by_metric.xs(metric, level="metric").reindex(lines.index)
        table[f"{metric} paper"] = ["" if pd.isna(value) else f"{value:.2f}" for value in found["paper"]]
        table[f"{metric} ours"] = [
            "" if pd.isna(mean) else mean_and_std(mean, std, digits=2)
            for mean, std in zip(found["ours"], found["std"], strict=True)
        ]
    return table.assign(differs=lines["differs"]).reset_index()
