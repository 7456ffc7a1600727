"""Names that users give, in figures: drawn as they stand, whatever characters they hold."""

from __future__ import annotations

import unicodedata
from functools import cache

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.ft2font import FT2Font

LONGEST = 60  # characters of a name beside or below a figure
LONGEST_AT_PANEL = 28  # and of one at a single panel
LONGEST_OF_TITLE = 400  # characters of a line of it
FURTHER_FAMILIES = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Zen Hei", "Droid Sans Fallback"),
    *("Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "PingFang SC", "Hiragino Sans", "Apple SD Gothic Neo"),
    *("Noto Sans Devanagari", "Noto Sans Bengali", "Noto Sans Thai", "Nirmala UI", "Arial Unicode MS"),
)
"""Fonts that, where installed, draw the characters which matplotlib's own font lacks."""


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
