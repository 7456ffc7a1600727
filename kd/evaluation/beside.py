"""Our results beside those that papers print."""

from __future__ import annotations

import pandas as pd

from kd.evaluation.papers import Where, printed_numbers
from kd.evaluation.tables import mean_and_std, row_order

COLUMNS = ("row", "level", "metric", "paper", "ours", "std", "n_seeds", "differs")


def beside_paper(
    table: pd.DataFrame,
    paper: str,
    where: Where,
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
        where: as for `kd.evaluation.papers.printed_numbers`.
        experiment: ours.
        dataset: ours, whatever the paper's is.
        selection: weights that are meant.
        differs: what is not as in the paper, in words; repeated in each line.

    Raises:
        UserError: as `kd.evaluation.papers.printed_numbers`.
    """
    numbers = printed_numbers(paper, where)
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
    """For people, as papers lay it out: rows by metrics, each of the paper and ours as mean ± std, then what differs.

    Args:
        compared: as from `beside_paper`. Metrics that the paper does not print are left out; where there is nothing,
            there is nothing.
    """
    metrics = compared.loc[compared["paper"].notna(), "metric"].drop_duplicates()
    lines = compared.drop_duplicates(["row", "level"])[["row", "level", "differs"]].set_index(["row", "level"])
    by_metric = compared.set_index(["row", "level", "metric"])
    table = lines.drop(columns="differs")
    for metric in metrics:
        found = by_metric.xs(metric, level="metric").reindex(lines.index)
        table[f"{metric} paper"] = ["" if pd.isna(value) else f"{value:.2f}" for value in found["paper"]]
        table[f"{metric} ours"] = [
            "" if pd.isna(mean) else mean_and_std(mean, std, digits=2)
            for mean, std in zip(found["ours"], found["std"], strict=True)
        ]
    return table.assign(differs=lines["differs"]).reset_index()
