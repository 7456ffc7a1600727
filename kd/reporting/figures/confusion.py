"""Which classes networks take for which others: confusion matrices side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, MinLen

from kd.artefacts.job import Job
from kd.common.errors import UserError
from kd.reporting.base import Figure, Row, Run
from kd.reporting.networks import rows_by_method
from kd.reporting.predictions import networks_of, predicted_classes

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure as Drawn

WRITTEN = 12  # columns up to which numbers stand in cells
DARK = 50  # percent above which a cell is dark
OTHERS = "all others"


class Report(Figure):
    """A panel for each method."""

    READS_FILES = True
    CAPTION = """\
Confusion matrices on test, all seeds together: of the samples of each class (row), how many percent are taken for which
class (column); rows sum to 100. Classes are those that are most confused with others in all panels together; what is
taken for a class that is not shown stands in the last column.
"""
    dataset: str
    """Single-label dataset whose test samples are counted."""
    methods: Annotated[list[str], MinLen(1)] = ["individual", "student"]
    """Methods of the tables, one panel each; `joint_teacher` is one, too. Where a method has several levels, say
    `student L2`."""
    experiment: str | None = None
    """Experiment in the tables; `null`: that of the config."""
    classes: Annotated[int, Ge(2)] = 10
    """The most classes that are shown: those that are most confused with others."""

    def check(self, run: Run) -> None:
        """The methods are there, and a sample has one class."""
        self.networks(run)
        if run.dataset(self.dataset).spec["task"] != "single_label":
            raise UserError(
                f"dataset: {self.dataset!r} is multi_label, expected single_label: a sample is taken for one class"
            )

    def reads(self, run: Run) -> list[Job]:
        """The networks that are shown, and the dataset."""
        rows = [row for found in self.networks(run).values() for row in found]
        return [run.dataset(self.dataset), *networks_of(rows)]

    def networks(self, run: Run) -> dict[str, list[Row]]:
        """The networks that are shown, of all seeds, by the names in `methods`."""
        rows = [row for row in run.rows_of(self.dataset, self.experiment) if not row.variant]
        return rows_by_method(rows, self.methods, "is no method of this dataset")

    def draw(self, run: Run) -> Drawn:
        """The figure."""
        import numpy as np

        from kd.data.packed import read_classes
        from kd.training.predictions import read_predictions

        names = read_classes(run.dataset(self.dataset).directory)
        counts = {}
        for method, rows in self.networks(run).items():
            counts[method] = np.zeros((len(names), len(names)), dtype=np.int64)
            for row in rows:
                found = read_predictions(row.job.directory, self.dataset, run.selection)
                counts[method] += confusion(found.labels, predicted_classes(found.logits), len(names))
        shown = most_confused(list(counts.values()), self.classes)
        rates = {method: shown_part(rates_of(each), shown) for method, each in counts.items()}
        return confusion_figure(rates, [names[number] for number in shown], run.title)


def confusion(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """(classes, classes) int64: how many samples of each class (row) are taken for each class (column)."""
    import numpy as np

    found: np.ndarray = np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)
    return found


def rates_of(counts: np.ndarray) -> np.ndarray:
    """Rows in percent; those of classes without samples are 0."""
    import numpy as np

    found: np.ndarray = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return found


def most_confused(counts: Sequence[np.ndarray], most: int) -> list[int]:
    """Class ids, in their order: those with samples that are taken for others, and others for them, most often.

    Args:
        counts: as from `confusion`, of each method.
        most: how many at most.
    """
    import numpy as np

    total = sum((rates_of(each) for each in counts), np.zeros(counts[0].shape))
    wrong = total * (1 - np.eye(len(total)))
    there = np.flatnonzero(counts[0].sum(axis=1) > 0)
    ranked = there[np.argsort(-(wrong.sum(axis=0) + wrong.sum(axis=1))[there], kind="stable")]
    return sorted(ranked[:most].tolist())


def shown_part(rates: np.ndarray, shown: Sequence[int]) -> np.ndarray:
    """(shown, shown) of a matrix, with a further column of all other classes, if there are any."""
    import numpy as np

    part = rates[np.ix_(shown, shown)]
    if len(shown) == len(rates):
        return part
    return np.column_stack([part, rates[shown].sum(axis=1) - part.sum(axis=1)])


def confusion_figure(rates: Mapping[str, np.ndarray], classes: Sequence[str], title: str) -> Drawn:
    """A panel for each method.

    Args:
        rates: method -> as from `shown_part`.
        classes: names of the rows.
        title: heading.
    """
    import numpy as np
    from matplotlib.figure import Figure as Drawn

    from kd.reporting.drawing import LONGEST_AT_PANEL, legible, write_title

    width = next(iter(rates.values())).shape[1]
    columns = [*classes, OTHERS][:width]
    size = max(3.2, 0.42 * width + 1)
    figure = Drawn(figsize=(size * len(rates) + 1.2, size + 1), layout="constrained")
    axes = figure.subplots(1, len(rates), squeeze=False, sharey=True)[0]
    for axis, (method, matrix) in zip(axes, rates.items(), strict=True):
        image = axis.imshow(matrix, cmap="Blues", vmin=0, vmax=100)
        ticks = [legible(name, LONGEST_AT_PANEL) for name in columns]
        axis.set_xticks(range(width), ticks, rotation=90)
        axis.set_yticks(range(len(classes)), ticks[: len(classes)])
        axis.set(title=method.replace("_", " "), xlabel="taken for")
        if width <= WRITTEN:
            for (row, column), value in np.ndenumerate(matrix):
                shade = "white" if value > DARK else "black"
                axis.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=7, color=shade)
    axes[0].set_ylabel("class")
    figure.colorbar(image, ax=axes, label="samples of the class (%)", shrink=0.8)
    write_title(figure, title)
    return figure
