"""What figures share: colours of methods, labels, one legend for all panels, and how they are written."""

from __future__ import annotations

import zlib
from pathlib import Path

import matplotlib as mpl

mpl.use("agg")
mpl.rcParams["svg.hashsalt"] = "kd"  # else each drawing of a figure is another file
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from kd.artefacts.files import replacing
from kd.reporting.lettering import write_title
from kd.reporting.statistics import DISTILLERS

COLOURS = {
    "individual": "#7f7f7f",
    "vanilla": "#000000",
    "single_dataset_kd": "#bcbd22",
    "single_dataset_kd_features": "#8c6d31",
    "joint_baseline": "#9467bd",
    "joint_teacher": "#1f77b4",
    "student": "#d62728",
}
MARKERS = {"": "P", "L1": "o", "L2": "s", "L3": "^", "L4": "D"}
STYLES = {"": "-", "L1": "--", "L2": "-", "L3": "-.", "L4": ":"}
LEGEND_COLUMNS = 4
# Of a legend, in type of 7 points: an entry without its text, a character of it, a line.
HANDLE_INCHES, CHARACTER_INCHES, LINE_INCHES = 0.5, 0.062, 0.14


def colour(method: str) -> str:
    """The colour of a method in all figures: each distiller has its own, darker with a joint teacher."""
    name = method.removeprefix("joint_")
    if method in COLOURS:
        return COLOURS[method]
    known = DISTILLERS.index(name) / len(DISTILLERS) if name in DISTILLERS else zlib.crc32(name.encode()) / 2**32
    red, green, blue, _ = mpl.colormaps["gist_rainbow"](known)
    light = 0.8 if name == method else 0.5
    return to_hex((light * red, light * green, light * blue))


def labels(table: pd.DataFrame) -> list[str]:
    """A label for each line of a table."""
    shown = table if table["experiment"].nunique() > 1 else table.assign(experiment="")
    return [label(*line) for line in shown[["experiment", "method", "level"]].astype(str).to_numpy()]


def label(experiment: str, method: str, level: str) -> str:
    """A label of those of the three that are not empty; an experiment stands as its user wrote it."""
    return " ".join(filter(None, [experiment, method.replace("_", " "), level]))


def with_legend(figure: Figure, title: str) -> Figure:
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
