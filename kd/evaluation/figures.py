"""Figures: test metrics, training curves, sensitivity to options, cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from kd.evaluation.lettering import LONGEST_AT_PANEL, legible, write_title
from kd.evaluation.tables import METHODS, REFERENCES, headline, option_and_value, primary_metrics
from kd.jobs.files import replacing
from kd.plan import Row
from kd.training.metrics import PRIMARY

COLOURS = {
    "individual": "#7f7f7f",
    "vanilla": "#000000",
    "single_dataset_kd": "#bcbd22",
    "single_dataset_kd_features": "#8c6d31",
    "joint_baseline": "#9467bd",
    "joint_teacher": "#1f77b4",
    "student": "#d62728",
}
OTHER_COLOUR = "#4d4d4d"
MARKERS = {"": "P", "L1": "o", "L2": "s", "L3": "^", "L4": "D"}
STYLES = {"": "-", "L1": "--", "L2": "-", "L3": "-.", "L4": ":"}
DECADE = 10
PANELS_ABREAST = 3
LEGEND_COLUMNS = 4
# Of a legend, in type of 7 points: an entry without its text, a character of it, a line.
HANDLE_INCHES, CHARACTER_INCHES, LINE_INCHES = 0.5, 0.062, 0.14


def colour(row: str) -> str:
    """Of a row in all figures: a distillation method has one of its own, from a joint teacher it is darker."""
    method = row.removeprefix("joint_")
    if method not in METHODS:
        return COLOURS.get(row, OTHER_COLOUR)
    red, green, blue, _ = mpl.colormaps["gist_rainbow"](METHODS.index(method) / len(METHODS))
    light = 0.8 if method == row else 0.5
    return to_hex((light * red, light * green, light * blue))


def accuracy_figure(table: pd.DataFrame, title: str, selection: str) -> Figure:
    """Test acc@1 or mAP of every row, a panel per dataset; error bars are one standard deviation over seeds.

    Sweeps are left out. Dotted lines are networks that were trained with labels alone.
    """
    chosen = headline(table, selection)
    metrics = primary_metrics(chosen)
    chosen = chosen.assign(label=_labels(chosen))
    labels = list(dict.fromkeys(chosen["label"]))
    size = (3.4 * len(metrics) + 1.5, max(4, 0.25 * len(labels) + 1.5))
    figure, axes = plt.subplots(1, len(metrics), figsize=size, squeeze=False, sharey=True)
    for axis, (dataset, metric) in zip(axes[0], metrics.items(), strict=True):
        lines = chosen[chosen["dataset"] == dataset]
        places = [labels.index(label) for label in lines["label"]]
        for place, row, mean, std in zip(places, lines["row"], lines["mean"], lines["std"].fillna(0), strict=True):
            axis.errorbar(mean, place, xerr=std, fmt="o", color=colour(row), capsize=3)
            if row in REFERENCES:
                axis.axvline(mean, color=colour(row), linewidth=0.8, linestyle=":")
        axis.grid(axis="x", alpha=0.3)
        axis.set(title=legible(dataset, LONGEST_AT_PANEL), xlabel=f"test {metric} (%)", yticks=range(len(labels)))
        axis.set_yticklabels(map(legible, labels))
    axes[0, 0].invert_yaxis()
    write_title(figure, title)
    figure.tight_layout()
    return figure


def _labels(table: pd.DataFrame) -> list[str]:
    several = table["experiment"].nunique() > 1
    columns = ["experiment", "row", "level"] if several else ["row", "level"]
    return [_label(*line) for line in table[columns].astype(str).to_numpy()]


def _label(*names: str) -> str:
    """Experiment if there are several, row and level; an experiment stands as its user wrote it."""
    *experiment, row, level = names
    return " ".join(filter(None, [*experiment, row.replace("_", " "), level]))


def curves_figure(rows: Sequence[Row], title: str) -> Figure:
    """acc@1 or mAP on val after each epoch, mean over seeds, a panel per dataset.

    Left out are sweeps, and what is trained for several datasets, which has one curve for all of them: joint
    baselines, and joint teachers of scope shared.
    """
    trained_for: dict[Path, set[str]] = {}
    for row in rows:
        trained_for.setdefault(row.job.directory, set()).add(row.dataset)
    shown = [row for row in rows if len(trained_for[row.job.directory]) == 1 and not row.variant]
    datasets = list(dict.fromkeys(row.dataset for row in shown))
    several = len({row.experiment for row in shown}) > 1
    figure, axes = plt.subplots(1, len(datasets), figsize=(3.4 * len(datasets) + 1.5, 3.5), squeeze=False)
    for axis, dataset in zip(axes[0], datasets, strict=True):
        groups: dict[tuple[str, str, str], list[pd.Series]] = {}
        for row in shown:
            history = row.job.directory / "history.csv"
            if row.dataset == dataset and history.is_file():
                groups.setdefault((row.experiment, row.row, row.level), []).append(_curve(history))
        for (experiment, name, level), curves in groups.items():
            mean = pd.concat(curves, axis=1).mean(axis=1)
            label = legible(_label(experiment if several else "", name, level))
            axis.plot(mean.index, mean, color=colour(name), linestyle=STYLES[level], label=label, linewidth=1.2)
            axis.set_ylabel(f"val {curves[0].name} (%)")
        axis.set(title=legible(dataset, LONGEST_AT_PANEL), xlabel="epoch")
        axis.grid(alpha=0.3)
    return _with_legend(figure, title)


def _curve(history: Path) -> pd.Series:
    """By epoch, counted from 1; its name is that of the metric."""
    table = pd.read_csv(history)
    metric = next(each for each in PRIMARY.values() if f"val_{each}" in table)
    return pd.Series(table[f"val_{metric}"].to_numpy(), index=table["epoch"] + 1, name=metric)


def sensitivity_figure(table: pd.DataFrame, title: str, selection: str) -> Figure:
    """Test acc@1 or mAP against the value of each option that was swept: a panel per option and dataset.

    Bands are one standard deviation over seeds; dashed lines are the student's network trained with labels alone, where
    an experiment whose students are swept has one.

    Args:
        table: as from `kd.evaluation.tables.summary`, with at least one option that was swept.
        title: heading.
        selection: weights that are meant.
    """
    metrics = primary_metrics(table)
    chosen = table[(table["metric"] == table["dataset"].map(metrics)) & (table["selection"] == selection)]
    options, values = zip(*map(option_and_value, chosen["variant"]), strict=True)
    chosen = chosen.assign(option=options, value=values, label=_labels(chosen))
    swept = chosen[chosen["option"] != ""]
    panels = swept[["dataset", "option"]].drop_duplicates().to_numpy().tolist()
    columns = max(1, min(len(panels), PANELS_ABREAST))
    rows = max(1, -(-len(panels) // columns))
    size = (3.4 * columns + 1.5, 3 * rows + 0.7)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for (dataset, option), axis in zip(panels, axes.flat, strict=False):
        here = chosen[chosen["dataset"] == dataset]
        lines = here[here["option"] == option]
        plain = here[(here["row"] == "vanilla") & (here["option"] == "")]
        _sensitivity_panel(axis, lines, plain[plain["experiment"].isin(lines["experiment"])])
        axis.set(
            title=legible(dataset, LONGEST_AT_PANEL),
            xlabel=option.replace("_", " "),
            ylabel=f"test {metrics[dataset]} (%)",
        )
    return _with_legend(figure, title)


def _sensitivity_panel(axis: Axes, swept: pd.DataFrame, vanilla: pd.DataFrame) -> None:
    """One option on one dataset."""
    values = swept["value"].unique()
    sizes = np.abs(values[values != 0])
    if sizes.size and sizes.max() >= DECADE * sizes.min():
        axis.set_xscale("symlog", linthresh=sizes.min())
    for (row, label), group in swept.sort_values("value").groupby(["row", "label"], sort=False):
        shade, spread = colour(str(row)), group["std"].fillna(0)
        axis.plot(group["value"], group["mean"], marker="o", markersize=4, color=shade, label=legible(str(label)))
        axis.fill_between(group["value"], group["mean"] - spread, group["mean"] + spread, color=shade, alpha=0.15)
    for mean, label in zip(vanilla["mean"], vanilla["label"], strict=True):
        axis.axhline(mean, color=colour("vanilla"), linestyle="--", linewidth=1, label=legible(label))
    axis.set_xticks(values, [f"{value:g}" for value in values])
    axis.minorticks_off()
    axis.grid(alpha=0.3)


def cost_figure(table: pd.DataFrame, title: str) -> Figure:
    """Wall-clock by stage in units of one individual training, and cached bytes by level."""
    stages = table[table["kind"] == "stage"]
    levels = table[table["kind"] == "level"]
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.4))
    labels = [f"{name} x {jobs:.0f}" for name, jobs in zip(stages["name"], stages["jobs"], strict=True)]
    axes[0].barh(labels, stages["individual_trainings"].astype(float), color="#1f77b4")
    axes[0].set(xlabel="wall-clock, in individual trainings", title="all jobs of a stage")
    axes[0].invert_yaxis()
    if len(levels):
        bars = axes[1].bar(levels["name"], levels["bytes"].astype(float) / 1e6, color="#d62728")
        per_image = [f"{value:,.0f} B per image" for value in levels["bytes_per_image"].astype(float)]
        axes[1].bar_label(bars, per_image, fontsize=8)
        axes[1].margins(y=0.15)
    axes[1].set(ylabel="cached, MB", title="all teachers, datasets, views, seeds")
    write_title(figure, title)
    figure.tight_layout()
    return figure


def cache_figure(table: pd.DataFrame, title: str) -> Figure:
    """Test acc@1 or mAP of students against what is stored of a training picture, a panel per dataset.

    Points are labelled with the number of stored views and the precision; lines across are live teachers, which
    store nothing. Error bars and bands are one standard deviation over seeds.
    """
    datasets = list(dict.fromkeys(table["dataset"]))
    columns = max(1, len(datasets))
    figure, axes = plt.subplots(1, columns, figsize=(3.6 * columns + 1.5, 3.7), squeeze=False)
    for axis, dataset in zip(axes[0], datasets, strict=False):
        lines = table[table["dataset"] == dataset]
        metric = lines["metric"].iloc[0]
        for (row, level), group in lines.groupby(["row", "level"], sort=False):
            label = f"{str(row).replace('_', ' ')} {level}"
            style = {"color": colour(str(row)), "marker": MARKERS[str(level)]}
            stored = group[group["views"] != "live"].sort_values("bytes_per_image")
            spread = stored["std"].fillna(0)
            axis.errorbar(
                stored["bytes_per_image"], stored["mean"], spread, label=label, linestyle="", capsize=3, **style
            )
            for size, mean, views, dtype in stored[["bytes_per_image", "mean", "views", "dtype"]].to_numpy():
                text = views if dtype == "float16" else f"{views} {dtype}"
                axis.annotate(text, (size, mean), xytext=(4, 4), textcoords="offset points", fontsize=7)
            for mean, deviation in group.loc[group["views"] == "live", ["mean", "std"]].fillna(0).to_numpy():
                axis.axhline(mean, color=colour(str(row)), linestyle=":", label=f"{label} live")
                axis.axhspan(mean - deviation, mean + deviation, color=colour(str(row)), alpha=0.1)
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter(EngFormatter(unit="B"))
        axis.set(
            title=legible(dataset, LONGEST_AT_PANEL), xlabel="stored per training picture", ylabel=f"test {metric} (%)"
        )
        axis.grid(alpha=0.3)
    return _with_legend(figure, title)


def _with_legend(figure: Figure, title: str) -> Figure:
    """One legend for all panels below them, for which the figure grows."""
    labelled = [axis.get_legend_handles_labels() for axis in figure.axes]
    handles = {name: handle for pair in labelled for handle, name in zip(*pair, strict=True)}
    width, height = figure.get_size_inches()
    widest = HANDLE_INCHES + CHARACTER_INCHES * max(map(len, handles), default=0)
    columns = max(1, min(LEGEND_COLUMNS, int(width / widest)))
    room = LINE_INCHES * (-(-len(handles) // columns) + 1)
    figure.set_size_inches(width, height + room)
    figure.legend(handles.values(), handles.keys(), loc="lower center", ncol=columns, fontsize=7, frameon=False)
    write_title(figure, title)
    figure.tight_layout(rect=(0, room / (height + room), 1, 1))
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure; the format is that of the file name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = path.suffix.removeprefix(".")
    with replacing(path) as partial:
        figure.savefig(partial, format=suffix, metadata={"Date": None} if suffix == "svg" else None, dpi=150)
    plt.close(figure)
