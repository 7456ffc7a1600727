"""Pack a labelled image source into a dataset of uint8 images with train, val and test."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kd.common.errors import UserError
from kd.common.options import BaseOptions
from kd.data.modalities.base import load_modality
from kd.data.options import SplitOptions, Task
from kd.data.sources.base import Sample, parse_source
from kd.jobs.run import Context, Outcome, stage_main

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger("kd")


class Spec(BaseOptions):
    """Options that a packed dataset depends on."""

    name: str
    source: dict[str, Any]
    fingerprint: dict[str, Any]
    modality: str
    """What samples are."""
    sample: dict[str, Any]
    """How they are stored: options of the modality."""
    task: Task
    split: SplitOptions


@dataclass(frozen=True)
class Selection:
    """The samples of a dataset, and the split that each belongs to.

    Attributes:
        samples: in the order of their ids.
        codes: (len(samples),) index into SPLITS; negative: left out.
        classes: sorted names.
        channels: of the images.
        notes: what the source left out or changed, and what the splits lack, in words, and how often.
    """

    samples: list[Sample]
    codes: np.ndarray
    classes: list[str]
    channels: int
    notes: dict[str, int]


def select(spec: Spec) -> Selection:
    """List the source and draw the splits; no image is opened.

    Raises:
        UserError: the source has changed since `spec` was made, or does not hold what is wanted.
    """
    from kd.data.packing import check_classes, encode_labels
    from kd.data.splits import assign_splits, strata

    source, options = parse_source(spec.source)
    try:
        if source.fingerprint(options) != spec.fingerprint:
            raise UserError("its files have changed since this run was planned; start it again")
        listing = source.read(options)
        samples = sorted(listing.samples, key=lambda sample: sample.id)
        listed = listing.classes
        classes = sorted({label for sample in samples for label in sample.labels} if listed is None else listed)
        labels = encode_labels(samples, classes, spec.task)
        codes = assign_splits(strata(labels), [sample.split for sample in samples], spec.split)
        notes = listing.notes | check_classes(labels, codes, classes, listed=listed is not None)
    except UserError as error:
        raise UserError(f"datasets.{spec.name}: {error}") from error
    return Selection(samples, codes, classes, source.CHANNELS, notes)


def build(context: Context[Spec]) -> Outcome:
    """Read the source, draw the splits, decode and store."""
    from kd.data.packing import pack

    spec = context.spec
    selection = select(spec)
    try:
        info, changes = pack(
            context.directory,
            spec.name,
            selection.samples,
            selection.codes,
            selection.classes,
            task=spec.task,
            modality=load_modality(spec.modality).model_validate(spec.sample),
            channels=selection.channels,
        )
    except UserError as error:
        raise UserError(f"datasets.{spec.name}: {error}") from error
    notes = selection.notes | changes
    log.info("%s: %d classes, %s", spec.name, len(selection.classes), info.sizes)
    for what, count in notes.items():
        log.info("%s: %s: %d", spec.name, what, count)
    return Outcome(
        {
            "classes": len(selection.classes),
            "sizes": info.sizes,
            "most_labels": info.most_labels,
            "notes": notes,
        }
    )


if __name__ == "__main__":
    stage_main(Spec, build)
