"""Pack a labelled image source into a dataset of uint8 images with train, val and test."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from kd.artefacts.files import PARTIAL, link_or_copy, remove
from kd.common.errors import UserError
from kd.common.options import BaseOptions
from kd.data.modalities.base import load_modality
from kd.data.options import SplitOptions, Task
from kd.data.sources.base import Sample, archives_of, parse_source
from kd.jobs.run import Context, Outcome, stage_main

if TYPE_CHECKING:
    import numpy as np

UNPACKED = ".unpacked"

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


def select(spec: Spec, unpacked: Path | None = None) -> Selection:
    """List the source and draw the splits; no image is opened.

    Args:
        spec: of the dataset.
        unpacked: the root of a source that was downloaded.

    Raises:
        UserError: the source has changed since `spec` was made, or does not hold what is wanted.
    """
    from kd.data.packing import check_classes, encode_labels
    from kd.data.splits import assign_splits, strata

    source, options = parse_source(spec.source if unpacked is None else spec.source | {"root": str(unpacked)})
    try:
        if unpacked is None and source.fingerprint(options) != spec.fingerprint:
            raise UserError("its files have changed since this run was planned; start it again")
        listing = source.read(options)
        samples = sorted(listing.samples, key=lambda sample: sample.id)
        listed = listing.classes
        classes = sorted({label for sample in samples for label in sample.labels} if listed is None else listed)
        labels = encode_labels(samples, classes, spec.task)
        given, groups = [sample.split for sample in samples], [sample.group for sample in samples]
        codes, uneven = assign_splits(strata(labels), given, spec.split, groups)
        notes = listing.notes | uneven | check_classes(labels, codes, classes, listed=listed is not None)
    except UserError as error:
        raise UserError(f"datasets.{spec.name}: {error}") from error
    return Selection(samples, codes, classes, source.CHANNELS, notes)


def build(context: Context[Spec]) -> Outcome:
    """Read the source, draw the splits, decode and store."""
    from kd.data.packing import pack

    spec = context.spec
    unpacked = _unpacked(spec, context.upstream["archives"], context.directory) if context.upstream else None
    selection = select(spec, unpacked)
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
    if unpacked is not None:
        remove(unpacked)
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


def _unpacked(spec: Spec, archives: Path, directory: Path) -> Path:
    """The folder that a downloaded source is unpacked in, also by an earlier attempt, until all of it is packed."""
    from kd.data.unpacking import is_archive, unpack

    target = directory / UNPACKED
    if not target.is_dir():
        with TemporaryDirectory(dir=directory, prefix=".", suffix=PARTIAL) as name:
            for archive in archives_of(spec.source["type"]):
                path, folder = archives / archive.file_name, Path(name) / "root" / archive.folder
                if is_archive(path):
                    log.info("%s: unpacking %s", spec.name, path.name)
                    unpack(path, folder)
                else:
                    link_or_copy(path, folder / path.name)
            (Path(name) / "root").replace(target)
    return target


if __name__ == "__main__":
    stage_main(Spec, build)
