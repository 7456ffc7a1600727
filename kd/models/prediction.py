"""Classify files, such as images, with a stored student."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from pydantic import ValidationError

from kd.common.errors import UserError, first_mistake
from kd.data.modalities.base import MODALITIES, Modality, plain
from kd.data.sources.files import Kind, find_kind, readable
from kd.models.weight_files import read_options
from kd.models.weights import EXPORT_CONFIG, Exported, ExportedStudent, load_network

log = logging.getLogger("kd")

Classified = list[tuple[str, float]]


def predict_files(student: Path, place: Path, top: int) -> Iterator[tuple[Path, Classified | UserError]]:
    """Classify a file, or every file below a folder that is a sample for the student in a directory.

    Files become samples as those of its dataset did.

    Yields:
        The path of a file, and its `top` most probable classes with their probabilities, best first; or why it cannot
        be classified.

    Raises:
        UserError: there is no student or no file, or its samples lie in no files.
    """
    if not (student / EXPORT_CONFIG).is_file():
        raise UserError(f"{student}: holds no {EXPORT_CONFIG}; expected the directory of a student, see index.csv")
    exported = read_options(student / EXPORT_CONFIG, ExportedStudent)
    try:
        modality = MODALITIES.stored(exported.modality)
        samples: Modality = modality.Samples.model_validate(exported.sample)
    except UserError as error:
        raise UserError(f"{student}: takes samples of modality {exported.modality}: {error}") from error
    except ValidationError as error:
        raise UserError(f"{student / EXPORT_CONFIG}: sample.{': '.join(first_mistake(error))}") from error
    kind: Kind | None = getattr(modality, "FILES", None)
    if kind is None:
        raise UserError(f"{student}: takes samples of modality {exported.modality}, which do not lie in files")
    files = _files(kind, place)
    classes, network = exported.label_names, load_network(student)  # not by timm: config.json may tell it anything
    if list(network.config.heads.values()) != [len(classes)]:
        raise UserError(
            f"{student}: {EXPORT_CONFIG} and the network in it are not of one student; expected both of one"
        )
    model = Exported(network, *network.config.heads).eval()
    for path in files:
        try:
            pixels = np.empty(samples.shape(3), np.uint8)
            for change in samples.decode(kind.open(path), pixels):
                log.warning("%s: %s", readable(path), change)
        except UserError as error:
            yield path, error
            continue
        with torch.inference_mode():
            logits = model(plain(samples, torch.from_numpy(pixels)[None]))[0]
        probabilities = logits.sigmoid() if exported.task == "multi_label" else logits.softmax(dim=0)
        best = probabilities.topk(min(top, len(classes)))
        yield path, [(classes[index], value) for value, index in zip(*(each.tolist() for each in best), strict=True)]


def _files(kind: Kind, place: Path) -> list[Path]:
    """The file, or those below the folder; also links to nothing, since whoever set them expects an answer."""
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise UserError(f"{readable(place)}: no such file or folder")
    found = find_kind(place, kind)
    files = [place / name for name in sorted([*found.files, *found.lost])]
    if not files:
        raise UserError(f"{readable(place)}: holds no {kind.name}s")
    return files
