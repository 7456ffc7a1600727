"""Where students look for each class: LayerCAM maps of their last stage.

The students score classes from their last map: convolutional ones do, and any with a `label_encoder`.

Jiang et al., "LayerCAM: exploring hierarchical class activation maps for localization", IEEE TIP 2021; drawn as in the
supplement of L2D, with the same library.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

from annotated_types import Gt, MinLen

from kd.artefacts.job import Job
from kd.common.errors import UserError
from kd.reporting.base import Figure, Run, each_once
from kd.reporting.networks import networks_by_method

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure as Drawn


class Report(Figure):
    """A row for each class, a column for each student."""

    KIND = "analysis"
    READS_FILES = True
    CAPTION = """\
Where students look for each class: LayerCAM of the last map, for the class of each row, over an image of test that has
it. Of each map the minimum is blue, the maximum red, so that maps of one column cannot be compared by strength.
"""
    dataset: str
    """Dataset whose test images are shown."""
    methods: Annotated[list[str], MinLen(1)] = ["vanilla", "reviewkd", "l2d"]
    """Methods of the tables, one column each; all must be there. Where a method has several levels, say `student
    L2`."""
    experiment: str | None = None
    """Experiment in the tables; `null`: that of the config."""
    classes: Annotated[int, Gt(0)] = 8
    """How many classes are shown, in alphabetical order, with one image for each."""

    def check(self, run: Run) -> None:
        """The methods are there, and their networks see images."""
        self.networks(run)

    def reads(self, run: Run) -> list[Job]:
        """The networks that are shown, and the dataset."""
        return [run.dataset(self.dataset), *each_once(self.networks(run).values())]

    def networks(self, run: Run) -> dict[str, Job]:
        """Jobs of the networks whose attention is shown, by the names in `methods`.

        Raises:
            UserError: the dataset is not of images, or as `networks_by_method`. The text begins with the option that is
                wrong.
        """
        networks = networks_by_method(run, self.dataset, self.experiment, self.methods)
        modality = run.dataset(self.dataset).spec["modality"]
        if modality != "image":
            raise UserError(f"dataset: {self.dataset!r} has samples of modality {modality}, expected image")
        return networks

    def draw(self, run: Run) -> Drawn:
        """Maps of the students of the first seed, for each of some classes on a test image that has it.

        Images are chosen by their labels alone: the first one that has the class and, if there is one, others too.

        Raises:
            UserError: as `kd.reporting.layer_cam.class_maps`.
        """
        import numpy as np
        import torch

        from kd.data.modalities.base import plain
        from kd.data.packed import open_split
        from kd.models.weights import load_network
        from kd.reporting.layer_cam import class_maps

        split = open_split(run.dataset(self.dataset).directory, "test")
        labels = split.labels if split.labels.ndim == 2 else np.eye(len(split.info.classes), dtype=int)[split.labels]
        chosen = [number for number in range(labels.shape[1]) if labels[:, number].any()][: self.classes]
        # Most labels first, up to three: with more, an image is crowded.
        shown = [max(np.flatnonzero(labels[:, number]), key=lambda row: min(labels[row].sum(), 3)) for number in chosen]
        pixels = np.concatenate([split.images.read(slice(row, row + 1)) for row in shown])
        images = plain(split.info.samples, torch.from_numpy(pixels))
        maps = {}
        for method, student in self.networks(run).items():
            found = class_maps(load_network(student.directory), self.dataset, images, chosen)
            maps[method] = torch.stack([found[place, place] for place in range(len(chosen))]).numpy()
        names = [split.info.classes[number] for number in chosen]
        return attention_figure(images.permute(0, 2, 3, 1).numpy(), maps, names, run.title)


def attention_figure(images: np.ndarray, maps: Mapping[str, np.ndarray], classes: Sequence[str], title: str) -> Drawn:
    """A row for each class: an image that has it, and for each method the map of the class over the image.

    Args:
        images: (classes, H, W, 3) RGB, uint8 or float in 0..1.
        maps: method -> (classes, h, w) in 0..1, in the order wanted; they are stretched over the images.
        classes: names.
        title: heading.
    """
    from matplotlib.figure import Figure as Drawn

    from kd.reporting.drawing import LONGEST_AT_PANEL, legible, write_title

    figure = Drawn(figsize=(1.6 * (1 + len(maps)) + 0.8, 1.6 * len(classes) + 0.7), layout="constrained")
    axes = figure.subplots(len(classes), 1 + len(maps), squeeze=False)
    height, width = images.shape[1:3]
    for column, name in enumerate(["image", *maps]):
        axes[0, column].set_title(name.replace("_", " "), fontsize=9)
        for row, image in enumerate(images):
            axis = axes[row, column]
            axis.imshow(image, extent=(0, width, height, 0))
            if column:
                heat = maps[name][row]
                axis.imshow(
                    heat, cmap="jet", alpha=0.5, vmin=0, vmax=1, extent=(0, width, height, 0), interpolation="bilinear"
                )
            axis.set(xticks=[], yticks=[])
    for row, name in enumerate(classes):
        axes[row, 0].set_ylabel(legible(name, LONGEST_AT_PANEL), fontsize=9)
    write_title(figure, title)
    return figure
