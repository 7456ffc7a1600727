"""Names that users give stand in figures as they gave them."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import font_manager
from matplotlib.figure import Figure

from kd.artefacts.job import Job
from kd.reporting import drawing
from kd.reporting.base import Row
from kd.reporting.drawing import LONGEST, legible, save
from kd.reporting.figures import accuracy, cache, cost, sensitivity, training_curves
from kd.reporting.figures.attention import attention_figure
from kd.reporting.figures.confusion import confusion_figure
from kd.reporting.statistics import PLACE
from kd.reporting.tables.cache import COLUMNS
from tests.reporting.results import Results, run_of, single_label

DRAWN_AS_THEY_STAND = (
    *("$1_to_$5", "$\\frac{1}", "a_b", "a^b", "<b>", "|", "\\n", "%", "&amp;", "#1", "{}", "~", "100%$", "\\$"),
    *("Zürich", "ImageNet → CIFAR", "😀", "עברית", "é", "kitten's", '"', "_hidden"),
)
ESCAPED = {"a\nb": "a\\nb", "\t": "\\t", "\0": "\\x00", "猫": "\\u732b", "\ud800": "\\ud800"}
LONG = "the name of an experiment that says all about it, " * 5
IN_FIGURES = ("$1_to_$5", "$\\frac{1}", "a_b", "<b>", "&amp;", "_hidden", "עברית", "😀")
NAMES = (*IN_FIGURES, *ESCAPED, LONG, "❤\ufe0f", "e\u0301")


@pytest.mark.parametrize("name", DRAWN_AS_THEY_STAND)
def test_legible__names_stand_as_they_are(name: str) -> None:
    assert legible(name).removeprefix("\u200b") == name


@pytest.mark.parametrize(("name", "shown"), ESCAPED.items())
def test_legible__what_no_font_has_is_escaped(name: str, shown: str) -> None:
    assert legible(name) == shown


def test_legible__long_names_keep_both_ends() -> None:
    shown = legible(LONG + "student L2")
    assert len(shown) == LONGEST
    assert shown.startswith("the name of")
    assert shown.endswith("student L2")


def test_legible__further_fonts_are_used_where_they_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A font of matplotlib's stands for one that is installed; the other family is not."""
    character = "\ue153"
    assert legible(character) == "\\ue153"
    with monkeypatch.context() as patch:
        patch.setattr(drawing, "FURTHER_FAMILIES", ("STIXNonUnicode", "A font of nobody's"))
        drawing.write_literally()
        assert legible(character) == character
        figure = Figure()
        figure.suptitle(character)
        figure.draw_without_rendering()
    drawing.write_literally()
    assert "STIXNonUnicode" in font_manager.fontManager.get_font_names()
    assert legible(character) == "\\ue153"


def texts(figure: Figure) -> set[str]:
    labels = [text for axis in figure.axes for text in (*axis.get_yticklabels(), axis.yaxis.label, axis.title)]
    legends = [text for legend in figure.legends for text in legend.get_texts()]
    return {text.get_text().removeprefix("\u200b") for text in (*labels, *legends)}


def test_figures__draw_every_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Warnings are errors: of formulas, of missing glyphs, of labels that a legend leaves out."""
    results, rows = Results(), []
    for number, name in enumerate(NAMES):
        results.add("vanilla", single_label("d", 50.0), experiment=name)
        for weight in (1, 2):
            results.add("kd", single_label("d", 50.0 + weight), experiment=name, variant=f"alpha={weight}")
        made = Job.make(tmp_path, "s", f"n{number}", spec={}, code={}, upstream={})
        made.directory.mkdir(parents=True)
        pd.DataFrame({"epoch": [0], "loss": [1], "val_acc@1": [10.0]}).to_csv(
            made.directory / "history.csv", index=False
        )
        rows.append(Row(name, "d", "kd", "L2", 0, made))
    title = f"$x_1$ and\n{LONG}猫"
    run = replace(results.run(), title=title)
    stored = pd.DataFrame(
        [("e", "d" * 80, "kd", "L2", "1", "int8", 9.0, "acc@1", 1, 80.0, 1.0)], columns=[*PLACE[:4], *COLUMNS]
    )
    costs = pd.DataFrame([{"kind": "stage", "name": "train_teacher", "jobs": 2, "individual_trainings": 2.0}])
    monkeypatch.setattr(cache, "cache_table", lambda *_: stored)
    monkeypatch.setattr(cost, "cost", lambda _: costs)
    images, heat = np.zeros((len(IN_FIGURES), 4, 4, 3), dtype=np.uint8), np.zeros((len(IN_FIGURES), 2, 2))
    figures = {
        "accuracy": accuracy.Report().draw(run),
        "curves": training_curves.Report().draw(replace(run_of(rows, "d"), title=title)),
        "sensitivity": sensitivity.Report().draw(run),
        "cache": cache.Report().draw(run),
        "cost": cost.Report().draw(run),
        "attention": attention_figure(images, {"kd": heat}, IN_FIGURES, title),
        "confusion": confusion_figure({"kd": np.eye(len(IN_FIGURES))}, IN_FIGURES, title),
    }
    endings = {"accuracy": " vanilla", "curves": " kd L2", "sensitivity": " kd", "attention": "", "confusion": ""}
    for name, ending in endings.items():
        assert {f"{each}{ending}" for each in IN_FIGURES} <= texts(figures[name]), name
    for (name, figure), suffix in zip(figures.items(), itertools.cycle(["svg", "png"]), strict=False):
        save(figure, tmp_path / f"{name}.{suffix}")
        assert (tmp_path / f"{name}.{suffix}").stat().st_size > 1000
