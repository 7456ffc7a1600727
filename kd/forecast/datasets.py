"""How many images a dataset has in each split, without decoding a picture."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

from kd.data.options import Colour
from kd.data.packed import SAMPLES, STORE
from kd.data.packing import most_labels, write_samples
from kd.data.sources.base import SPLITS
from kd.data.sources.registry import load_source
from kd.forecast.memory import Memory, is_answer
from kd.jobs.errors import UserError
from kd.jobs.job import Job
from kd.jobs.manifest import load_manifest
from kd.jobs.reading import read_json
from kd.stages.prepare_dataset import Spec, select


@dataclass(frozen=True)
class DatasetFacts:
    """What the sizes of a dataset, and of all that is made from it, depend on.

    Attributes:
        name: in the config.
        classes: sorted names.
        image_size: height and width in pixels.
        resize: how pictures are brought to that size.
        channels: 1 or 3.
        sizes: images per split.
        task: decides the form of its labels.
        most_labels: of one picture.
        listing_bytes: of samples.csv.
        ground: red, green and blue that transparent images are laid on.
        notes: what was left out or changed, or is missing, in words, and how often; of a dataset that is not packed
            yet, as far as its files tell without being decoded.
    """

    name: str
    classes: tuple[str, ...]
    image_size: tuple[int, int]
    resize: str
    channels: int
    sizes: dict[str, int]
    task: str
    most_labels: int
    listing_bytes: int
    ground: Colour
    notes: dict[str, int]


def dataset_facts(job: Job, memory: Memory) -> DatasetFacts:
    """Of a packed dataset as it is, else from its source and the draw of its splits.

    Raises:
        UserError: the source cannot be listed, or not be split as wanted.
    """
    spec = Spec.model_validate(job.spec)
    found = _packed(job) or memory.recall("dataset", [job.spec, job.code], lambda: _listed(spec))
    return DatasetFacts(
        name=spec.name,
        classes=tuple(found["classes"]),
        image_size=spec.image_size,
        resize=spec.resize,
        channels=load_source(spec.source["type"]).CHANNELS,
        sizes=found["sizes"],
        task=spec.task,
        most_labels=found["most_labels"],
        listing_bytes=found["listing_bytes"],
        ground=spec.ground,
        notes=found["notes"],
    )


def _packed(job: Job) -> dict[str, Any] | None:
    """From a finished artefact; None: there is none, or the stage will make it anew."""
    try:
        manifest = load_manifest(job.directory)
        if manifest is None:
            return None
        records = {record["path"]: record["bytes"] for record in manifest["files"]}
        document = read_json(job.directory / STORE / "zarr.json")
        found = {
            "classes": document["attributes"]["classes"],
            "sizes": manifest["result"]["sizes"],
            "most_labels": manifest["result"]["most_labels"],
            "listing_bytes": records[SAMPLES],
            "notes": manifest["result"]["notes"],
        }
        return found if is_answer("dataset", found) else None
    except (UserError, OSError, ValueError, KeyError, TypeError):
        return None


def _listed(spec: Spec) -> dict[str, Any]:
    selection = select(spec)
    coded = list(zip(selection.samples, selection.codes, strict=True))
    splits = [[sample for sample, code in coded if code == wanted] for wanted in range(len(SPLITS))]
    text = io.StringIO()
    write_samples(text, splits)
    return {
        "classes": selection.classes,
        "most_labels": most_labels(selection.samples),
        "sizes": {split: len(samples) for split, samples in zip(SPLITS, splits, strict=True)},
        "listing_bytes": len(text.getvalue().encode()),
        "notes": selection.notes,
    }
