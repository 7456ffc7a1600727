"""How well networks tell classes apart: t-SNE of their vectors (L1) of test samples.

van der Maaten and Hinton, "Visualizing data using t-SNE", JMLR 2008, by openTSNE; as in MLFD's supplement, with numbers
that do not depend on how t-SNE happens to lay points out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NamedTuple

from annotated_types import Ge, Gt, MinLen

from kd.artefacts.job import Job
from kd.common.errors import UserError
from kd.reporting.base import Figure, Run, each_once
from kd.reporting.networks import networks_by_method

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from matplotlib.figure import Figure as Drawn

    from kd.data.packed import Split

PERPLEXITY = 30
TEN = 10  # colours that are told apart easily
SEED = 0


class Separation(NamedTuple):
    """How far apart classes are in a space of vectors.

    Attributes:
        neighbours: percent of samples whose class most of their nearest neighbours have.
        silhouette: mean silhouette, in -1..1 (Rousseeuw, 1987).
    """

    neighbours: float
    silhouette: float


class Report(Figure):
    """A panel for each network."""

    KIND = "analysis"
    READS_FILES = True
    CAPTION = """\
t-SNE of the vectors (L1) that networks of the first seed make of test samples of some classes. Below each panel, of the
vectors themselves and not of the picture: how often the class of a sample is that of most of its nearest neighbours
(k-NN accuracy, each sample left out in turn), and the mean silhouette. Samples are the same in all panels.
"""
    dataset: str
    """Single-label dataset whose test samples are shown."""
    methods: Annotated[list[str], MinLen(1)] = ["individual", "student"]
    """Methods of the tables, one panel each. Where a method has several levels, say `student L2`."""
    experiment: str | None = None
    """Experiment in the tables; `null`: that of the config."""
    classes: Annotated[int, Ge(2)] | Annotated[list[str], MinLen(2)] = 10
    """Names of classes, or how many: those with the most test samples, of equals the first by name."""
    samples: Annotated[int, Gt(0)] = 2000
    """The most samples that are shown: the first ones of test, whose order is random."""
    neighbours: Annotated[int, Gt(0)] = 10
    """Nearest neighbours that decide, for the k-NN accuracy."""

    def check(self, run: Run) -> None:
        """The methods are there, and a sample has one class."""
        self.networks(run)
        if run.dataset(self.dataset).spec["task"] != "single_label":
            raise UserError(f"dataset: {self.dataset!r} is multi_label, expected single_label: a point has one colour")

    def reads(self, run: Run) -> list[Job]:
        """The networks that are shown, and the dataset."""
        return [run.dataset(self.dataset), *each_once(self.networks(run).values())]

    def networks(self, run: Run) -> dict[str, Job]:
        """Jobs of the networks that are shown, by the names in `methods`."""
        return networks_by_method(run, self.dataset, self.experiment, self.methods)

    def draw(self, run: Run) -> Drawn:
        """The figure.

        Raises:
            UserError: the dataset has no such class, or test has too few samples of the classes.
        """
        from kd.data.packed import open_split

        split = open_split(run.dataset(self.dataset).directory, "test")
        chosen = self.chosen(split.info.classes, split.labels)
        rows = chosen_rows(split.labels, chosen, self.samples)
        if len(rows) <= self.neighbours:
            raise UserError(
                f"reports.tsne.neighbours: {self.neighbours}, expected fewer than the {len(rows)} test samples of these"
                " classes"
            )
        vectors = {name: vectors_of(job.directory, split, rows) for name, job in self.networks(run).items()}
        classes = {number: split.info.classes[number] for number in chosen}
        return tsne_figure(vectors, split.labels[rows], classes, self.neighbours, run.title)

    def chosen(self, classes: tuple[str, ...], labels: np.ndarray) -> list[int]:
        """Class ids, in the order of the option or else of their names."""
        import numpy as np

        if isinstance(self.classes, list):
            unknown = [name for name in self.classes if name not in classes]
            if unknown:
                raise UserError(f"reports.tsne.classes: {unknown[0]!r} is no class of {self.dataset}")
            return [classes.index(name) for name in self.classes]
        counts = np.bincount(labels, minlength=len(classes))
        return sorted(np.argsort(-counts, kind="stable")[: self.classes].tolist())


def chosen_rows(labels: np.ndarray, chosen: list[int], most: int) -> np.ndarray:
    """Rows of samples of some classes, the first ones."""
    import numpy as np

    return np.flatnonzero(np.isin(labels, chosen))[:most]


def vectors_of(directory: Path, split: Split, rows: np.ndarray) -> np.ndarray:
    """What the network in a directory makes of samples themselves, without augmentation: (N, D) float32.

    Args:
        directory: of the network.
        split: whose samples.
        rows: (N,) of them, in ascending order.
    """
    import numpy as np
    import torch

    from kd.data.modalities.base import plain
    from kd.embeddings.computing import BATCH, FrozenTeachers, read_rows
    from kd.embeddings.options import CacheOptions
    from kd.models.devices import make_fabric, send

    fabric = make_fabric("32")
    network = FrozenTeachers([directory], ("L1",), split.info.name, CacheOptions(), fabric)
    found = []
    for batch in np.array_split(rows, -(-len(rows) // BATCH)):
        (seen,) = network.embed(plain(split.info.samples, send(fabric, read_rows(split.images, batch))))
        found.append(seen["L1"].cpu())
    return torch.cat(found).numpy()


def separation(vectors: np.ndarray, labels: np.ndarray, neighbours: int) -> Separation:
    """How far apart classes are, by Euclidean distances.

    Args:
        vectors: (N, D).
        labels: (N,) class ids, of two classes at least.
        neighbours: fewer than N; where several classes have equally many of them, the smallest id counts.
    """
    from scipy.stats import mode
    from sklearn.metrics import silhouette_score
    from sklearn.neighbors import NearestNeighbors

    nearest = NearestNeighbors(n_neighbors=neighbours).fit(vectors).kneighbors(return_distance=False)
    voted = mode(labels[nearest], axis=1).mode
    return Separation(100 * float((voted == labels).mean()), float(silhouette_score(vectors, labels)))


def tsne_figure(
    vectors: Mapping[str, np.ndarray], labels: np.ndarray, classes: Mapping[int, str], neighbours: int, title: str
) -> Drawn:
    """A panel for each network.

    Args:
        vectors: (N, D) by the name of the network.
        labels: (N,) class ids.
        classes: names of the classes that are shown, by id.
        neighbours: as in `separation`.
        title: heading.
    """
    import matplotlib as mpl
    import matplotlib.pyplot as plt
    from openTSNE import TSNE

    from kd.reporting.drawing import LONGEST_AT_PANEL, legible, with_legend

    colours = mpl.colormaps["tab10" if len(classes) <= TEN else "nipy_spectral"].resampled(max(TEN, len(classes)))
    figure, axes = plt.subplots(1, len(vectors), figsize=(3.6 * len(vectors), 4), squeeze=False)
    for axis, (name, each) in zip(axes[0], vectors.items(), strict=True):
        perplexity = min(PERPLEXITY, (len(each) - 1) / 3)
        placed = TSNE(perplexity=perplexity, random_state=SEED, n_jobs=1).fit(each)
        for place, (number, shown) in enumerate(classes.items()):
            points = placed[labels == number].T
            axis.scatter(*points, s=6, color=colours(place), label=legible(shown, LONGEST_AT_PANEL), linewidths=0)
        found = separation(each, labels, neighbours)
        said = f"{neighbours}-NN accuracy {found.neighbours:.1f} %, silhouette {found.silhouette:.3f}"
        axis.set(xticks=[], yticks=[], title=name.replace("_", " "))
        axis.set_xlabel(said, fontsize=8)
    return with_legend(figure, title)
