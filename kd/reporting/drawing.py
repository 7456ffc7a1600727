"""What figures share: colours of methods, labels, one legend for all panels, and how they are written.

Names that users give are drawn as they stand, whatever characters they hold.
"""

from __future__ import annotations

import unicodedata
import zlib
from functools import cache
from pathlib import Path

import matplotlib as mpl

mpl.use("agg")
mpl.rcParams["svg.hashsalt"] = "kd"  # else each drawing of a figure is another file
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.ft2font import FT2Font

from kd.artefacts.files import replacing
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

LONGEST = 60  # characters of a name beside or below a figure
LONGEST_AT_PANEL = 28  # and of one at a single panel
LONGEST_OF_TITLE = 400  # characters of a line of it
FURTHER_FAMILIES = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Zen Hei", "Droid Sans Fallback"),
    *("Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "PingFang SC", "Hiragino Sans", "Apple SD Gothic Neo"),
    *("Noto Sans Devanagari", "Noto Sans Bengali", "Noto Sans Thai", "Nirmala UI", "Arial Unicode MS"),
)
"""Fonts that, where installed, draw the characters which matplotlib's own font lacks."""


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


def write_literally() -> None:
    """Let matplotlib draw text as it stands: `$` begins no formula. For all figures of this process."""
    installed = set(fontManager.get_font_names())
    mpl.rcParams["text.parse_math"] = False
    mpl.rcParams["font.family"] = ["sans-serif", *(family for family in FURTHER_FAMILIES if family in installed)]
    _fonts.cache_clear()


def legible(name: str, longest: int = LONGEST) -> str:
    """A name in one line that can be drawn, cut in its middle where it has more than `longest` characters.

    What no font has, and control characters, are shown as Python escapes them.
    """
    shown = "".join(map(_drawable, name))
    # A label that begins with an underscore is left out of legends.
    shown = f"\u200b{shown}" if shown.startswith("_") else shown
    half = longest // 2
    return shown if len(shown) <= longest else f"{shown[: half - 1]}…{shown[-half:]}"


def write_title(figure: Figure, title: str) -> None:
    """The heading of a figure; long lines are wrapped."""
    figure.suptitle("\n".join(legible(line, LONGEST_OF_TITLE) for line in title.splitlines()), wrap=True)


def _drawable(character: str) -> str:
    category = unicodedata.category(character)
    if any(font.get_char_index(ord(character)) for font in _fonts()) and category != "Cc":
        return character
    if category in ("Cf", "Mn"):  # it has no width, or shapes another
        return ""
    return " " if category == "Zs" else character.encode("unicode_escape").decode()


@cache
def _fonts() -> list[FT2Font]:
    return [get_font(findfont(FontProperties(family=[family]))) for family in mpl.rcParams["font.family"]]


write_literally()
