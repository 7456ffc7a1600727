"""Pack a labelled image source into a dataset of uint8 images with train, val and test."""

from __future__ import annotations

import logging
from typing import Any

from kd.data.options import Resize, SplitOptions
from kd.data.sources.registry import parse_source
from kd.jobs.errors import UserError
from kd.jobs.run import Context, Outcome, stage_main
from kd.options import BaseOptions

log = logging.getLogger("kd")


class Spec(BaseOptions):
    """What a packed dataset depends on."""

    name: str
    source: dict[str, Any]
    fingerprint: dict[str, Any]
    image_size: tuple[int, int]
    resize: Resize
    split: SplitOptions


def build(context: Context[Spec]) -> Outcome:
    """Read the source, draw the splits, decode and store."""
    import numpy as np

    from kd.data.packed import check_classes, pack
    from kd.data.splits import assign_splits

    spec = context.spec
    source, options = parse_source(spec.source)
    if source.fingerprint(options) != spec.fingerprint:
        raise UserError(f"datasets.{spec.name}: its files have changed since this run was planned; start it again")
    samples = sorted(source.samples(options), key=lambda sample: sample.id)
    labels = [sample.label for sample in samples]
    classes = sorted(set(labels))
    number = {label: index for index, label in enumerate(classes)}
    try:
        given = [sample.split for sample in samples]
        codes = assign_splits(np.array([number[label] for label in labels]), given, spec.split)
        check_classes(labels, codes, classes)
        info = pack(
            context.directory,
            spec.name,
            samples,
            codes,
            classes,
            image_size=spec.image_size,
            resize=spec.resize,
            channels=source.CHANNELS,
        )
    except UserError as error:
        raise UserError(f"datasets.{spec.name}: {error}") from error
    log.info("%s: %d classes, %s", spec.name, len(classes), info.sizes)
    return Outcome({"classes": len(classes), "sizes": info.sizes})


if __name__ == "__main__":
    stage_main(Spec, build)
