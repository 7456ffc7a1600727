"""Our results beside those that papers print: `papers/NAME.csv` has the numbers, from their supplements.

`mlfd`: multi-level feature distillation of joint teachers trained on distinct image datasets; columns table,
experiment, level, n_datasets, row, dataset, metric, value. `l2d`: multi-label knowledge distillation (Yang et al.,
ICCV 2023); columns table, setting, dataset, teacher, student, method, metric, value. Values are in percent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from kd.evaluation.tables import mean_and_std, row_order
from kd.jobs.errors import UserError

PAPERS = Path(__file__).with_suffix("")
COLUMNS = ("row", "level", "metric", "paper", "ours", "std", "n_seeds", "differs")
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
"""What papers call rows, where we call them otherwise."""


def beside_paper(
    table: pd.DataFrame,
    paper: str,
    where: Mapping[str, str | Sequence[str]],
    *,
    experiment: str,
    dataset: str,
    selection: str,
    differs: str,
) -> pd.DataFrame:
    """Each row and metric of an experiment of ours with what the paper has for it: `COLUMNS`.

    `paper` and `ours` are in percent, `std` is that of ours over seeds. Where the paper has nothing, or we have
    nothing, there is NaN. A line of the paper without a level stands for any level of ours.

    Args:
        table: as from `kd.evaluation.tables.summary`.
        paper: `l2d` or `mlfd`.
        where: column of the paper's numbers -> value or values; what picks out one experiment on one dataset, such
            as {"table": "S3", "dataset": "voc2007", "teacher": "resnet50", "student": "resnet18"}.
        experiment: ours.
        dataset: ours, whatever the paper's is.
        selection: weights that are meant.
        differs: what is not as in the paper, in words; repeated in each line.

    Raises:
        UserError: there is no such paper or column, nothing in the paper is as `where` says, or several numbers
            are for one row and metric.
    """
    numbers = _numbers(paper, where)
    place = {"experiment": experiment, "dataset": dataset, "selection": selection, "variant": ""}
    chosen = table[(table[list(place)] == pd.Series(place)).all(axis=1)]
    lines, compared = [], set()
    for ours in chosen.to_dict("records"):
        exact, any_level = ((ours["row"], level, ours["metric"]) for level in (ours["level"], ""))
        key = exact if exact in numbers else any_level
        compared.add(key)
        lines.append((*exact, numbers.get(key), ours["mean"], ours["std"], ours["n_seeds"], differs))
    lines += [(*key, value, None, None, 0, differs) for key, value in numbers.items() if key not in compared]
    lines.sort(key=lambda line: (row_order(line[0]), line[1]))
    return pd.DataFrame(lines, columns=list(COLUMNS)).astype({"paper": float, "ours": float, "std": float})


def readable_beside_paper(compared: pd.DataFrame) -> pd.DataFrame:
    """For people: `beside_paper` with ours as mean ± std, and nothing where there is nothing."""
    ours = [
        "" if pd.isna(mean) else mean_and_std(mean, std, digits=2)
        for mean, std in zip(compared["ours"], compared["std"], strict=True)
    ]
    paper = ["" if pd.isna(value) else f"{value:.2f}" for value in compared["paper"]]
    return compared.assign(paper=paper, ours=ours).drop(columns=["std", "n_seeds"])


def _numbers(paper: str, where: Mapping[str, str | Sequence[str]]) -> dict[tuple[str, str, str], float]:
    """What a paper prints, by row (as we call it), level and metric."""
    if paper not in OUR_NAMES:
        raise UserError(f"paper: found {paper!r}, expected one of {', '.join(OUR_NAMES)}")
    printed = pd.read_csv(PAPERS / f"{paper}.csv", dtype=str, keep_default_na=False)
    for column, wanted in where.items():
        if column not in printed:
            raise UserError(f"paper {paper}: {column}: no such column, expected some of {', '.join(printed.columns)}")
        values = [wanted] if isinstance(wanted, str) else list(wanted)
        found = printed[printed[column].isin(values)]
        if found.empty:
            known = ", ".join(dict.fromkeys(printed[column]))
            raise UserError(f"paper {paper}: {column}: found {wanted!r}, expected one of {known}")
        printed = found
    printed = printed.rename(columns={"method": "row"})
    printed["row"] = printed["row"].replace(OUR_NAMES[paper])
    printed["level"] = printed.get("level", "")
    keys = list(printed[["row", "level", "metric"]].itertuples(index=False, name=None))
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise UserError(f"paper {paper}: several numbers for {' '.join(filter(None, twice))}; pick out one experiment")
    return dict(zip(keys, printed["value"].astype(float), strict=True))
